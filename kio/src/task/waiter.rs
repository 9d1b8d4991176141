//! One place where one task waits.

use core::cell::Cell;
use core::task::{Context, Waker};

use super::{Header, Tasks, catch};

/// Who waits here: a task of this worker, by its header, or a foreign waker.
///
/// A future polled by its own task is woken through the header, without a `Waker`. Polled under
/// another waker (FuturesUnordered, or a future that moved to another task), that one is kept.
/// A stale header wakes a stranger once; spurious polls are legal.
pub(crate) struct Waiter {
    task: Cell<Option<&'static Header>>,
    waker: Cell<Option<Waker>>,
}

impl Waiter {
    pub(crate) const fn new() -> Self {
        Self { task: Cell::new(None), waker: Cell::new(None) }
    }

    /// Whoever polls with `cx` waits here from now on.
    #[inline]
    pub(crate) fn register(&self, tasks: &Tasks, cx: &Context<'_>) {
        match tasks.current_if(cx.waker()) {
            Some(task) => self.task.set(Some(task)),
            None => self.register_foreign(cx.waker()),
        }
    }

    #[cold]
    fn register_foreign(&self, waker: &Waker) {
        self.task.set(None);
        // Cloning, dropping and comparing run user code: no value of ours is borrowed meanwhile.
        let kept = self.waker.take();
        let same = kept.as_ref().is_some_and(|kept| kept.will_wake(waker));
        self.waker.set(if same { kept } else { Some(waker.clone()) });
    }

    /// Nobody waits here any more.
    #[inline]
    pub(crate) fn clear(&self) {
        self.task.set(None);
        if let Some(waker) = self.waker.take() {
            end_foreign(waker, drop);
        }
    }

    /// Wakes whoever waits.
    #[inline]
    pub(crate) fn wake(&self, tasks: &Tasks) {
        if let Some(task) = self.task.take() {
            tasks.ready(task);
        } else if let Some(waker) = self.waker.take()
            && !end_foreign(waker, Waker::wake)
        {
            tasks.counters.panics.add(1);
        }
    }

    /// Moves who waits out, to be woken once nothing of ours is borrowed.
    pub(super) fn take(&self) -> Self {
        let task = self.task.take();
        // One that was here before the task is not woken, nor dropped while somebody is.
        let waker = if task.is_none() { self.waker.take() } else { None };
        Self { task: Cell::new(task), waker: Cell::new(waker) }
    }
}

/// Wakes or drops a foreign waker, which is anybody's code; false where it panicked. Most callers are
/// the worker's loop, or hold a slot between two of its states: its fault is not theirs.
#[cold]
fn end_foreign(waker: Waker, how: fn(Waker)) -> bool {
    catch(|| how(waker)).is_ok()
}
