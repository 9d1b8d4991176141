//! One place where one task waits.

use core::cell::Cell;
use core::task::{Context, Waker};

use super::{Tasks, catch};

/// Who waits here: a task of this worker, by index, or a foreign waker.
///
/// A future polled by its own task is woken through the index, without a `Waker`. Polled under
/// another waker (FuturesUnordered, or a future that moved to another task), that one is kept.
/// A stale index wakes a stranger once; spurious polls are legal.
pub(crate) struct Waiter {
    /// Index + 1; 0 is nobody.
    task: Cell<u32>,
    waker: Cell<Option<Waker>>,
}

impl Waiter {
    pub(crate) const fn new() -> Self {
        Self { task: Cell::new(0), waker: Cell::new(None) }
    }

    /// Whoever polls with `cx` waits here from now on.
    #[inline]
    pub(crate) fn register(&self, tasks: &Tasks, cx: &Context<'_>) {
        match tasks.current_if(cx.waker()) {
            Some(index) => self.task.set(index + 1),
            None => self.register_foreign(cx.waker()),
        }
    }

    #[cold]
    fn register_foreign(&self, waker: &Waker) {
        self.task.set(0);
        // Cloning, dropping and comparing run user code: no value of ours is borrowed meanwhile.
        let kept = self.waker.take();
        let same = kept.as_ref().is_some_and(|kept| kept.will_wake(waker));
        self.waker.set(if same { kept } else { Some(waker.clone()) });
    }

    /// Nobody waits here any more.
    #[inline]
    pub(crate) fn clear(&self) {
        self.task.set(0);
        if let Some(waker) = self.waker.take() {
            end_foreign(waker, drop);
        }
    }

    /// Wakes whoever waits.
    #[inline]
    pub(crate) fn wake(&self, tasks: &Tasks) {
        let task = self.task.replace(0);
        if task != 0 {
            tasks.ready(task - 1);
        } else if let Some(waker) = self.waker.take()
            && !end_foreign(waker, Waker::wake)
        {
            tasks.counters.panics.add(1);
        }
    }

    /// Moves who waits out, to be woken once nothing of ours is borrowed.
    pub(super) fn take(&self) -> Self {
        let task = self.task.replace(0);
        // One that was here before the task is not woken, nor dropped while somebody is.
        let waker = if task == 0 { self.waker.take() } else { None };
        Self { task: Cell::new(task), waker: Cell::new(waker) }
    }
}

/// Wakes or drops a foreign waker, which is anybody's code; false where it panicked. Most callers are
/// the worker's loop, or hold a slot between two of its states: its fault is not theirs.
#[cold]
fn end_foreign(waker: Waker, how: fn(Waker)) -> bool {
    catch(|| how(waker)).is_ok()
}
