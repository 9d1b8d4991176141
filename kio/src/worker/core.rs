//! `Core`: the handle that library code takes.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use pin_project_lite::pin_project;

use super::{Parts, Shared, Signal, Signals, hash, pick};
use crate::buf::{BufMut, Take};
use crate::error::{Error, Result};
use crate::metrics::{Stats, Usage};
#[cfg(feature = "std")]
use crate::task::Panic;
use crate::task::{Home, JoinHandle, Outcome, Reserve, SpawnError, TaskFn, Tasks, WaitNode};
use crate::time::{Instant, Interval, Sleep, Timeout};

/// The worker that runs the calling task: its clock, its buffers, its tasks, its sockets.
///
/// A copy is free. It is bound to its thread (`!Send`); used after the worker has stopped (hidden in
/// a thread-local, say) it answers `Stopped`, or what is said at the method.
#[derive(Clone, Copy)]
pub struct Core {
    parts: Home<Parts>,
}

impl Core {
    pub(crate) fn new(parts: &'static Parts) -> Self {
        Self { parts: Home::new(parts) }
    }

    /// The worker's parts, if the calling thread owns them.
    #[inline]
    pub(crate) fn parts(self) -> Result<&'static Parts> {
        if self.parts.tasks.owner.is_current() { Ok(self.parts.get()) } else { Err(Error::Stopped) }
    }

    /// The worker's tasks, whoever asks; of them only what is atomic, and the owner, may be looked at
    /// by others.
    pub(crate) fn tasks(self) -> &'static Tasks {
        &self.parts.get().tasks
    }

    /// Which worker this is, from 0.
    pub fn index(self) -> usize {
        self.parts.index.get() as usize
    }

    /// How many workers run.
    pub fn workers(self) -> usize {
        use core::sync::atomic::Ordering;
        self.parts.shared().workers.load(Ordering::Relaxed) as usize
    }

    /// The worker that a key belongs to: always the same for one key and number of workers, in
    /// every run and on every machine.
    pub fn by_key(self, key: &[u8]) -> usize {
        pick(hash(key), self.workers() as u32) as usize
    }

    /// Whether this is a worker of the pool with that shared part.
    pub(crate) fn is_of(self, shared: &'static Shared) -> bool {
        self.parts().is_ok_and(|parts| core::ptr::eq(parts.shared(), shared))
    }

    #[cfg(feature = "std")]
    /// An entry failed: the pool stops, and the error is what `run` returns.
    pub(crate) fn fail(self, error: Error) {
        if let Ok(parts) = self.parts() {
            parts.shared().fail(error);
        }
    }

    // ---- time ----

    /// The moment now. One read of the clock.
    pub fn now(self) -> Instant {
        Instant::now()
    }

    /// Waits for a span. Ready at once after the worker has stopped. See [`Sleep`].
    pub fn sleep(self, span: Duration) -> Sleep {
        self.sleep_until(Instant::now() + span)
    }

    /// Waits until a moment.
    pub fn sleep_until(self, deadline: Instant) -> Sleep {
        Sleep::until(&self.parts.get().timers, deadline)
    }

    /// Gives `future` so long; past it, `future` is given up.
    pub fn timeout<F: Future>(self, span: Duration, future: F) -> Timeout<F> {
        self.deadline(Instant::now() + span, future)
    }

    /// Gives `future` until a moment.
    pub fn deadline<F: Future>(self, at: Instant, future: F) -> Timeout<F> {
        Timeout::new(future, self.sleep_until(at))
    }

    /// Ticks every `period`, first one period from now.
    pub fn interval(self, period: Duration) -> Interval {
        Interval::new(&self.parts.get().timers, period)
    }

    // ---- buffers ----

    /// An empty buffer; waits, first come first served, while none is free.
    ///
    /// Cancel safety: nothing is lost. Error: `Stopped`.
    pub fn buf(self) -> Take {
        Take::new(&self.parts.get().io.bufs)
    }

    /// An empty buffer, if one is free.
    pub fn try_buf(self) -> Option<BufMut> {
        BufMut::take(&self.parts().ok()?.io.bufs)
    }

    // ---- tasks ----

    /// Starts a task: `make` builds the future in its declared slot, to be polled from the next
    /// turn on. The error holds the closure.
    #[inline]
    pub fn spawn<F, Fut>(
        self,
        make: F,
    ) -> core::result::Result<JoinHandle<Fut::Output>, SpawnError<F>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output: Outcome> + 'static,
    {
        self.parts.get().tasks.spawn(make)
    }

    /// Waits for a free slot of the task that `task` names, first come first served, and holds it.
    ///
    /// Cancel safety: nothing is lost. Errors: `Stopped`; the task is not declared.
    pub fn reserve<Args, F: TaskFn<Args>>(self, _task: F) -> Reserve<F::Future> {
        Reserve::new(&self.parts.get().tasks)
    }

    /// As `reserve`, where the task's type is known.
    pub(crate) fn reserve_future<F: Future<Output: Outcome> + 'static>(self) -> Reserve<F> {
        Reserve::new(&self.parts.get().tasks)
    }

    #[cfg(feature = "std")]
    /// What was to make the future of a task panicked.
    pub(crate) fn spawn_panicked<F: Future + 'static>(self, panic: &Panic) {
        if let Ok(parts) = self.parts() {
            parts.tasks.spawn_panicked::<F>(panic);
        }
    }

    // ---- stopping ----

    /// Whether the pool stops; true after it has stopped.
    pub fn is_stopping(self) -> bool {
        self.parts().map_or(true, |parts| parts.stopping.get() || parts.tasks.closed.get())
    }

    /// Waits until the pool stops.
    pub fn stopping(self) -> Stopping {
        Stopping { core: self, node: WaitNode::new() }
    }

    /// Stops the pool: listeners end, connections drain.
    pub fn stop(self) {
        if let Ok(parts) = self.parts() {
            parts.shared().stop();
        }
    }

    /// The stream of a declared signal.
    pub fn signal(self, signal: Signal) -> Result<Signals> {
        Signals::new(self, signal)
    }

    /// What this worker counted. A copy, and one system call for the CPU time.
    pub fn stats(self) -> Stats {
        self.parts.stats()
    }

    /// How full this worker's tables are, and were: tasks by name, buffers, sockets, files.
    pub fn usage(self) -> impl Iterator<Item = Usage> {
        self.parts().into_iter().flat_map(|parts| parts.usage(parts.config()))
    }
}

impl core::fmt::Debug for Core {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Core({})", self.index())
    }
}

pin_project! {
    /// Ready when the pool stops; see [`Core::stopping`].
    #[must_use = "it does nothing until awaited"]
    pub struct Stopping {
        core: Core,
        #[pin]
        node: WaitNode,
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.core.is_stopping() {
            return Poll::Ready(());
        }
        let parts = self.core.parts.get();
        let node = self.project().node.into_ref();
        node.wait(&parts.stop_waiters, &parts.tasks, cx);
        Poll::Pending
    }
}
