//! What `pool!` expands into: the declaration as numbers, the statics, starting and stopping.

mod config;
mod footprint;
#[cfg(feature = "std")]
mod handle;
#[cfg(feature = "std")]
mod secure;
#[cfg(feature = "std")]
mod serve;
#[cfg(feature = "std")]
mod signals;
#[cfg(feature = "std")]
mod start;
mod tables;
mod worker;

pub(crate) use config::LISTENERS;
pub use config::{Config, Idle, Pin, Registered, Workers};
pub use footprint::Footprint;
#[cfg(feature = "std")]
pub use handle::Handle;
#[cfg(feature = "std")]
pub use secure::*;
#[cfg(feature = "std")]
pub use serve::{Handler, accept_layout, handler_layout, serve};
#[cfg(feature = "std")]
pub use start::{run, start, start_when_free};
pub use tables::{Memory, Tables};
pub use worker::{EntryFuture, IntoEntry, Worker, enter, entry_layout, layout};

use crate::error::Result;
use crate::task::StateCell;
use crate::worker::{Core, OnError, Shared};

/// The state of a worker: made on each before its entry runs, with what is known only at run time.
pub trait State: Sized + 'static {
    /// What `run` and `start` are given.
    type Args: Send + Sync + 'static;

    /// Makes one worker's state. An error fails the start.
    fn init(core: Core, args: &Self::Args) -> Result<Self>;
}

impl State for () {
    type Args = ();

    fn init(_: Core, (): &()) -> Result<Self> {
        Ok(())
    }
}

/// A declared pool. Implemented by `pool!`, never by hand.
///
/// # Safety
/// The statics it gives out are this pool's alone, made by [`Tables::new`] with the numbers of
/// [`Pool::CONFIG`], whose task arenas are those of `tasks`, in order.
#[doc(hidden)]
pub unsafe trait Pool: Sized + 'static {
    /// The state of each worker.
    type State: State;
    /// The declaration.
    const CONFIG: Config;
    /// Its memory.
    const FOOTPRINT: Footprint = Footprint::of(&Self::CONFIG);

    /// The shared part.
    fn shared() -> &'static Shared;
    /// One worker's memory.
    fn memory(worker: usize) -> Memory;
    /// One worker's state.
    fn state(worker: usize) -> &'static StateCell<Self::State>;
    /// Starts what runs on every worker: the entry, or the accept loops.
    fn enter(worker: Worker<Self>) -> Result<()>;
    /// Tells the root of relative paths, as the state says it. Where nothing is told it is the
    /// working directory at start.
    fn root(_state: &Self::State, _told: &mut dyn FnMut(&[u8])) {}
    /// Told of failures.
    fn on_error() -> Option<OnError> {
        None
    }
}
