//! `Worker<P>`: a worker of a known pool, and how its entry is told apart and measured.

use core::any::TypeId;
use core::marker::PhantomData;
use core::ops::Deref;
use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::Pool;
use crate::error::{Error, Result};
use crate::task::{StateRef, TaskDecl, TaskFn};
use crate::worker::Core;

/// A worker of the pool `P`: a [`Core`], and what the declaration adds.
pub struct Worker<P> {
    core: Core,
    pool: PhantomData<fn() -> P>,
}

impl<P: Pool> Worker<P> {
    pub(crate) fn new(core: Core) -> Self {
        Self { core, pool: PhantomData }
    }

    /// The untyped handle, for library code.
    pub fn core(self) -> Core {
        self.core
    }

    /// This worker's state, for as long as the guard is kept.
    ///
    /// # Panics
    /// After the worker has stopped.
    pub fn state(self) -> StateRef<P::State> {
        assert!(self.core.parts().is_ok(), "the worker's state is gone: the worker has stopped");
        P::state(self.core.index()).guard()
    }
}

impl<P> Clone for Worker<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Worker<P> {}

impl<P> Deref for Worker<P> {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl<P: Pool> From<Core> for Worker<P> {
    /// # Panics
    /// Where the core belongs to another pool.
    fn from(core: Core) -> Self {
        assert!(core.is_of(P::shared()), "the core belongs to another pool");
        Self::new(core)
    }
}

/// What an entry may be a function of: `Worker<P>` or [`Core`].
#[diagnostic::on_unimplemented(
    message = "an entry takes a `kio::Worker` of its own pool or a `kio::Core`, not `{Self}`",
    label = "not an entry"
)]
pub trait IntoEntry<P> {
    /// Makes it of a worker.
    fn of(worker: Worker<P>) -> Self;
}

impl<P> IntoEntry<P> for Worker<P> {
    fn of(worker: Self) -> Self {
        worker
    }
}

impl<P> IntoEntry<P> for Core {
    fn of(worker: Worker<P>) -> Self {
        worker.core
    }
}

pin_project! {
    /// The entry's future: its error stops the pool.
    pub struct EntryFuture<F> {
        core: Core,
        #[pin]
        future: F,
    }
}

impl<F> EntryFuture<F> {
    /// Wraps the entry's future.
    pub fn new(core: Core, future: F) -> Self {
        Self { core, future }
    }
}

impl<F: Future<Output = Result<()>>> Future for EntryFuture<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Poll::Ready(ended) = this.future.poll(cx) else {
            return Poll::Pending;
        };
        match ended {
            Ok(()) | Err(Error::Stopped) => {}
            #[cfg(feature = "std")]
            Err(error) => this.core.fail(error),
            #[cfg(not(feature = "std"))]
            Err(_) => this.core.stop(),
        }
        Poll::Ready(())
    }
}

/// A line of `tasks`: as large as the future that `task` makes, or its output.
pub const fn layout<Args, F: TaskFn<Args>>(_: &F, name: &'static str, count: u32) -> TaskDecl {
    decl::<F::Future>(name, count)
}

/// The line of an entry: its future, wrapped.
pub const fn entry_layout<P: Pool, Arg: IntoEntry<P>, F, Fut>(_: &F, name: &'static str) -> TaskDecl
where
    F: Fn(Arg) -> Fut,
    Fut: Future<Output = Result<()>> + 'static,
{
    decl::<EntryFuture<Fut>>(name, 1)
}

pub(super) const fn decl<F: Future + 'static>(name: &'static str, count: u32) -> TaskDecl {
    let (future, output) = (size_of::<F>(), size_of::<F::Output>());
    let (align, other) = (align_of::<F>(), align_of::<F::Output>());
    TaskDecl {
        name,
        count,
        size: if future > output { future } else { output },
        align: if align > other { align } else { other },
        id: Some(TypeId::of::<F>()),
    }
}

impl TaskDecl {
    /// The line of an arena that takes any future up to a size.
    pub const fn any(name: &'static str, count: u32, size: usize) -> Self {
        Self { name, count, size, align: 16, id: None }
    }
}

/// Starts the entry in its slot.
pub fn enter<P: Pool, Arg: IntoEntry<P>, F, Fut>(worker: Worker<P>, entry: F) -> Result<()>
where
    F: Fn(Arg) -> Fut,
    Fut: Future<Output = Result<()>> + 'static,
{
    let spawned = worker.spawn(|| EntryFuture::new(worker.core, entry(Arg::of(worker))));
    spawned.map(drop).map_err(Error::from)
}
