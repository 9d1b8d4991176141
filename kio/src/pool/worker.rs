//! `Worker<P>`: a worker of a known pool, and how its entry is told apart and measured.

use core::any::{Any, TypeId};
use core::marker::PhantomData;
use core::ops::Deref;
use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::Pool;
use crate::error::{Error, Result};
use crate::task::call::SlotSize;
use crate::task::{Call, StateRef, TaskDecl, TaskFn};
use crate::worker::{Core, Parts};

/// A worker of the pool `P`: a [`Core`], and what the declaration adds.
pub struct Worker<P> {
    core: Core,
    pool: PhantomData<fn() -> P>,
}

/// The slot size of a pool's call arena.
pub(super) struct CallSlots<P>(PhantomData<P>);

impl<P: Pool> SlotSize for CallSlots<P> {
    const SIZE: usize = {
        let tasks = P::CONFIG.tasks;
        tasks[tasks.len() - 1].size
    };
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

    /// Runs an async closure on a worker of the pool, this one or another, and gives its value.
    ///
    /// The closure is called there with that worker, so what belongs to a worker is reached by going
    /// to it. Closure and value cross threads: both are `Send`, so a socket or a buffer cannot be in
    /// them, and the compiler says so. What the closure makes on the way may be neither.
    ///
    /// Closure, future and value live one after another in a slot of that worker's `calls` arena; one
    /// that is too big for a slot does not build, and the error tells both sizes. While all slots are
    /// taken the call waits, in order of arrival. The calls that one task makes begin in the order in
    /// which they were first polled.
    ///
    /// ```no_run
    /// # struct Count(std::cell::Cell<u64>);
    /// # impl kio::State for Count {
    /// #     type Args = ();
    /// #     fn init(_: kio::Core, (): &()) -> kio::Result<Self> { Ok(Self(0.into())) }
    /// # }
    /// # async fn entry(_: kio::Core) -> kio::Result<()> { Ok(()) }
    /// # kio::pool! { struct App; entry = entry, state = Count, workers = 2, }
    /// async fn visited(worker: kio::Worker<App>, name: &str) -> kio::Result<u64> {
    ///     let home = worker.by_key(name.as_bytes());
    ///     let count = worker.on(home, async |home| {
    ///         let count = &home.state().0;
    ///         count.set(count.get() + 1);
    ///         count.get()
    ///     });
    ///     Ok(count.await?)
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// Errors: [`CallError::Stopped`](crate::CallError) with the closure, if it was not begun before
    /// the pool stopped; `Full` with the closure, at once, if the arena is full and this call is made
    /// inside of another, which must not wait; `Lost` if it panicked or was dropped by the stop. While
    /// a pool drains, each worker goes on answering until all are drained.
    ///
    /// Cancel safety: dropped before it was posted, nothing has happened; after, the future on the
    /// other worker is dropped at its next turn, or its value is. Forgotten, it keeps its slot.
    ///
    /// Cost: the closure and the value are moved once each. No system call while the other worker is
    /// awake; one message to its ring, with this worker's next `io_uring_enter`, if it sleeps.
    ///
    /// # Panics
    /// Where there is no such worker.
    pub fn on<F, R>(self, worker: usize, closure: F) -> Call<F, R>
    where
        F: AsyncFnOnce(Self) -> R + Send + 'static,
        R: Send + 'static,
    {
        let workers = self.core.workers();
        assert!(worker < workers, "worker {worker} of {workers}");
        let make =
            |closure: F, context: &'static dyn Any| closure(Self::new(Parts::core_of(context)));
        Call::new::<_, _, CallSlots<P>>(self.core.tasks(), worker as u32, closure, make)
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
