//! The buffer store of a worker.
//!
//! One block of page-aligned buffers. Each is free, in the ring (the kernel may write it), or held:
//! by handles ([`Buf`], [`BufMut`]), by a connection's receive queue, by its outbox, and while being
//! sent by the operation. A held buffer is read-only, unless its one holder is a `BufMut`.

mod buf_mut;
mod provided;
mod shared;
mod store;

pub(crate) use buf_mut::View;
pub use buf_mut::{BufMut, NoRoom};
pub(crate) use provided::ENTRY_SIZE;
pub use shared::Buf;
pub use store::Take;
pub(crate) use store::{Header, Store, StoreMemory};
