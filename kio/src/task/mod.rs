//! Tasks: futures in declared slots, and who is ready to be polled.
//!
//! [`Tasks`] holds a worker's slots; a slot's life is drawn at [`header::Header`]. Local scheduling
//! is plain memory: a FIFO of indices linked through the headers. Foreign wakes come over the
//! stack in [`remote`], calls from other threads through [`call`], and [`peers`] is how the workers
//! of a pool know and wake each other.

mod arena;
pub(crate) mod call;
mod gate;
mod header;
mod join;
mod lock;
mod outcome;
mod owner;
mod peers;
#[cfg(feature = "embassy-sync")]
mod raw_mutex;
pub(crate) mod remote;
#[cfg(feature = "embassy-sync")]
mod roll;
mod spawn;
mod statics;
mod tasks;
mod wait;
mod waiter;
mod waker;

pub use arena::TaskDecl;
pub(crate) use arena::{Arena, place};
pub use call::{Call, CallError};
pub(crate) use call::{CallHeader, RoomQueue};
pub(crate) use gate::{Gate, Line, Place, let_go, wake};
pub(crate) use header::Header;
pub use join::{JoinError, JoinHandle};
pub use outcome::{Failure, FailureKind, Outcome};
pub(crate) use peers::{Peers, WORKERS_MAX};
#[cfg(feature = "embassy-sync")]
pub use raw_mutex::WorkerRawMutex;
pub use spawn::{Reservation, Reserve, SpawnError, TaskFn};
pub use statics::{Bytes, Owned, StateCell, StateRef};
pub(crate) use statics::{Home, Part, Published, Table};
#[cfg(feature = "std")]
pub(crate) use tasks::Panic;
pub(crate) use tasks::{Tasks, Tell, catch};
pub(crate) use wait::{WaitList, WaitNode};
pub(crate) use waiter::Waiter;
