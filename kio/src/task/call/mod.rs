//! Calls: a closure runs on a worker, in its call arena, for somebody on another thread.
//!
//! The callers are plain threads, who block ([`thread`]), and tasks of workers, who wait ([`worker`]).
//! Both take a slot of the target's call arena; [`arena`] keeps it, and knows who waits for room.
//! How a slot is handed over between threads is told in [`slot`].

mod arena;
mod room;
mod slot;
#[cfg(feature = "std")]
pub(crate) mod thread;
mod worker;

pub(crate) use arena::{CallHeader, Calls};
pub(crate) use room::RoomQueue;
pub use worker::{Call, CallError};
pub(crate) use worker::{SlotSize, check_size};
