//! kio: a thread-per-core io_uring runtime for Linux whose whole memory is declared before it runs.
#![no_std]
#![deny(missing_docs)]
// Without `std` there is no ring yet (the simulated one comes), so nothing drives what is here.
#![cfg_attr(not(feature = "std"), allow(dead_code, unused_imports))]

#[cfg(feature = "std")]
extern crate std;

mod buf;
mod error;
mod metrics;
pub mod net;
mod op;
mod pool;
mod ring;
mod task;
pub mod time;
mod worker;

pub use buf::{Buf, BufMut, NoRoom};
pub use error::{Error, Held, Result, StartError};
pub use kio_macros::pool;
pub use metrics::Stats;
#[cfg(feature = "std")]
pub use pool::Handle;
pub use pool::{Footprint, State, Worker};
#[cfg(feature = "std")]
pub use ring::{Probe, probe};
pub use task::{
    Failure, FailureKind, JoinError, JoinHandle, Outcome, Reservation, Reserve, SpawnError,
    StateRef, TaskFn,
};
pub use worker::{Core, Signal, Signals, Stopping};

/// What the code of `pool!` uses. No part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use crate::pool::*;
    pub use crate::task::{Bytes, Failure, Owned, StateCell, TaskDecl};
    pub use crate::worker::Shared;
    pub use core;
}
