//! Operations: what a worker has in the kernel, and what becomes of each completion.
//!
//! Who owns the memory an operation uses, by its state, and what giving up does:
//!
//! | operation     | the kernel reads or writes     | owner of that memory          | its user gives up    |
//! |---------------|--------------------------------|-------------------------------|----------------------|
//! | receive       | buffers of the provided ring   | the store, then the socket    | nothing: data queues |
//! | send          | outbox entries and their bytes | the socket's outbox           | nothing: it goes on  |
//! | accept        | the peer's address             | the socket slot it will fill  | the listener keeps it|
//! | connect       | the address                    | the socket slot               | cancelled, closed    |
//! | install       | the descriptor's number        | the socket slot               | closed when done     |
//! | close, shutdown, cancel, poll | nothing        |                               | nothing              |
//!
//! So a future never owns what the kernel touches: it holds a slot's index and watches. All of it is
//! static; a forgotten future dangles nothing.
//!
//! Every socket has three op slots of its own (receive, send, control), so submitting never fails
//! and never waits for a slot, and the sum of what can complete is known. [`Io::complete`] is a
//! plain function of the worker's state and one completion: tests drive it without a kernel.
//! Operations on files are told of in [`file`], those on TLS records in `record`.

mod accept;
mod close;
mod connect;
pub(crate) mod file;
mod io;
mod list;
mod outbox;
mod queue;
#[cfg(feature = "tls")]
mod record;
mod recv;
mod relay;
mod send;
mod slot;
mod socket;
mod stall;
#[cfg(test)]
mod tests;

pub(crate) use accept::{Accepted, Listener};
pub(crate) use connect::RawAddr;
pub(crate) use io::{Io, IoMemory};
pub use outbox::Out;
pub(crate) use outbox::OutEntry;
#[cfg(feature = "tls")]
pub(crate) use record::{Arrived, Record};
pub(crate) use recv::Limit;
pub(crate) use relay::Intake;
pub(crate) use slot::{CANCELS_MAX, OPS_A_SOCKET, Slot};
pub(crate) use socket::Socket;
pub(crate) use stall::HURRY;
