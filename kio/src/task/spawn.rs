//! Spawning: the future is built in its slot, and what does not fit comes back.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::{JoinHandle, Outcome, Tasks, WaitNode};
use crate::error::{Error, Result};

/// Why a spawn was refused, with the closure, so that nothing in it is lost.
pub enum SpawnError<F> {
    /// All slots declared for this task are taken.
    Full(F),
    /// The future's type, named here, is not in `tasks`, and no slot of the `spawn` arena holds it.
    Undeclared(F, &'static str),
    /// The worker drops its tasks, or has stopped.
    Stopped(F),
}

impl<F> SpawnError<F> {
    /// The closure.
    pub fn into_inner(self) -> F {
        match self {
            Self::Full(f) | Self::Undeclared(f, _) | Self::Stopped(f) => f,
        }
    }
}

impl<F> fmt::Display for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str(
                "all slots of this task are taken: `reserve` waits for one, or raise its count",
            ),
            Self::Undeclared(_, name) => write!(
                f,
                "`{name}` is not declared and does not fit the `spawn` arena: name its function \
                 in `tasks`, or raise `spawn`"
            ),
            Self::Stopped(_) => f.write_str("the worker has stopped"),
        }
    }
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<F> core::error::Error for SpawnError<F> {}

impl<F> From<SpawnError<F>> for Error {
    fn from(error: SpawnError<F>) -> Self {
        match error {
            SpawnError::Full(_) => Self::Other("all slots of the task are taken"),
            SpawnError::Undeclared(..) => Self::Other("the task is not declared"),
            SpawnError::Stopped(_) => Self::Stopped,
        }
    }
}

/// A function that makes a task's future: any `async fn` of up to six arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task: kio needs an `async fn` of at most six owned arguments that \
               returns `()` or a `Result`",
    note = "its arguments must be 'static: a task outlives the one that spawned it"
)]
pub trait TaskFn<Args> {
    /// The future it makes.
    type Future: Future<Output: Outcome> + 'static;
}

macro_rules! task_fn {
    ($($arg:ident)*) => {
        impl<Function, Fut, $($arg),*> TaskFn<($($arg,)*)> for Function
        where
            Function: Fn($($arg),*) -> Fut,
            Fut: Future<Output: Outcome> + 'static,
        {
            type Future = Fut;
        }
    };
}
task_fn!();
task_fn!(A);
task_fn!(A B);
task_fn!(A B C);
task_fn!(A B C D);
task_fn!(A B C D E);
task_fn!(A B C D E G);

impl Tasks {
    /// Builds `make`'s future in a slot of its arena.
    #[inline]
    pub(crate) fn spawn<F, Fut>(
        &'static self,
        make: F,
    ) -> core::result::Result<JoinHandle<Fut::Output>, SpawnError<F>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output: Outcome> + 'static,
    {
        if !self.owner.is_current() || self.closed.get() {
            return Err(SpawnError::Stopped(make));
        }
        let Some(arena) = self.arena_for::<Fut>(true) else {
            return Err(SpawnError::Undeclared(make, core::any::type_name::<Fut>()));
        };
        let Some(index) = self.claim(arena) else {
            self.counters.tasks_full.add(1);
            self.arena(arena).live.waited();
            return Err(SpawnError::Full(make));
        };
        // SAFETY: just claimed; the arena was found by the future's type, for which it was sized, or
        // by the sizes and alignments of the future and its output.
        unsafe { self.start(index, true, make) };
        Ok(JoinHandle::new(self, index))
    }
}

/// Waits for a free slot; see `Core::reserve`.
#[must_use = "it does nothing until awaited"]
pub struct Reserve<Fut> {
    tasks: &'static Tasks,
    arena: Option<u16>,
    node: WaitNode,
    /// Invariant: a subtype of `Fut` is another type, with another slot.
    future: PhantomData<fn(Fut) -> Fut>,
}

impl<Fut: Future<Output: Outcome> + 'static> Reserve<Fut> {
    pub(crate) fn new(tasks: &'static Tasks) -> Self {
        let arena = if tasks.owner.is_current() { tasks.arena_for::<Fut>(false) } else { None };
        Self { tasks, arena, node: WaitNode::new(), future: PhantomData }
    }
}

impl<Fut: Future<Output: Outcome> + 'static> Future for Reserve<Fut> {
    type Output = Result<Reservation<Fut>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the node is pinned with the future and never moved.
        let node = unsafe { self.as_ref().map_unchecked(|this| &this.node) };
        let tasks = self.tasks;
        if !tasks.owner.is_current() || tasks.closed.get() {
            return Poll::Ready(Err(Error::Stopped));
        }
        let Some(arena) = self.arena else {
            return Poll::Ready(Err(Error::Other(
                "reserve: the task is not declared: name its function in `tasks`",
            )));
        };
        let waiters = &tasks.arena(arena).waiters;
        match node.has_turn(waiters).then(|| tasks.claim(arena)).flatten() {
            Some(index) => {
                node.leave();
                Poll::Ready(Ok(Reservation { tasks, index, future: PhantomData }))
            }
            None => {
                if !node.is_waiting() {
                    tasks.counters.task_waits.add(1);
                    tasks.arena(arena).live.waited();
                }
                node.wait(waiters, tasks, cx);
                Poll::Pending
            }
        }
    }
}

impl<Fut> Drop for Reserve<Fut> {
    fn drop(&mut self) {
        // Woken and dropped before it was polled: the room it was told of goes to the next.
        if let Some(arena) = self.arena.filter(|_| !self.node.is_waiting())
            && self.tasks.owner.is_current()
            && self.tasks.arena(arena).has_room()
        {
            self.tasks.arena(arena).waiters.wake_one(self.tasks);
        }
    }
}

/// A free slot held for one task. Dropped, it gives the slot back.
#[must_use = "dropped, it gives the slot back"]
pub struct Reservation<Fut> {
    tasks: &'static Tasks,
    index: u32,
    /// Invariant: a subtype of `Fut` is another type, with another slot.
    future: PhantomData<fn(Fut) -> Fut>,
}

impl<Fut: Future<Output: Outcome> + 'static> Reservation<Fut> {
    /// Builds the future in the slot; it is polled from the worker's next turn on. Once the worker
    /// drops its tasks the handle answers `Stopped`.
    pub fn spawn<F: FnOnce() -> Fut>(self, make: F) -> JoinHandle<Fut::Output> {
        let this = ManuallyDrop::new(self);
        if !this.tasks.owner.is_current() || this.tasks.closed.get() {
            drop(ManuallyDrop::into_inner(this));
            return JoinHandle::stopped();
        }
        // SAFETY: `Reserve` claimed the slot in the arena of this very future's type, and this
        // reservation, which started nothing yet, is used up.
        unsafe { this.tasks.start(this.index, true, make) };
        JoinHandle::new(this.tasks, this.index)
    }
}

impl<Fut> Drop for Reservation<Fut> {
    fn drop(&mut self) {
        if self.tasks.owner.is_current() {
            self.tasks.free(self.index);
        }
    }
}
