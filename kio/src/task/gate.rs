//! Where futures of any threads wait in one line, over a state they share: what `sync/` stands on.
//!
//! A [`Place`] is pinned inside the future that waits, and its `Drop` takes it out of the line:
//! pinned memory is not reused before `Drop` ran, so a line never names a place that is gone,
//! whatever is forgotten. Unlike [`super::WaitList`] a line belongs to no worker: state, line and
//! places are touched under the gate's [`Lock`] only. Wakers run user code, so they are cloned,
//! woken and dropped outside of it; one that panics as it is woken or dropped has its fault to
//! itself, since whoever wakes it has a line, or a value in hand, to see to.
//!
//! This file stands alone but for its lock and `catch`, so that `tests/loom` checks it as it is.

use core::cell::{Cell, UnsafeCell};
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr;
use core::task::{Context, Poll, Waker};

use super::catch;
use super::lock::Lock;

/// A state, and the line of those who wait for it to change. All zero while nobody waits and the
/// state is.
pub(crate) struct Gate<S> {
    inner: Lock<Inner<S>>,
}

struct Inner<S> {
    state: S,
    line: Line,
}

/// Those who wait, first come first called. Seen under the gate's lock only.
pub(crate) struct Line {
    head: *const Node,
    tail: *const Node,
    /// Which round those wait in who come now; never falls along the line.
    round: u64,
}

// SAFETY: the nodes are touched under the gate's lock only, and what is in them (a waker) is `Send`.
unsafe impl Send for Line {}

/// The part of a future that waits at a gate.
///
/// ```text
///          poll: Pending          call_first, call_before
///   Away --------1--------> Waiting --------2--------> Called
///    ^                       |  ^                        | |
///    +----3: Ready, leave,---+  +------4: Pending--------+ |
///    +-------drop ---------------------3-------------------+
/// ```
pub(crate) struct Place<'a, S> {
    gate: &'a Gate<S>,
    /// Whether the node is not `Away`, or was not when this thread last looked.
    begun: Cell<bool>,
    node: Node,
}

struct Node {
    entry: UnsafeCell<Entry>,
    _pinned: PhantomPinned,
}

// SAFETY: the entry is touched under the gate's lock only, and the waker in it is `Send`.
unsafe impl Send for Node {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Away,
    Waiting,
    Called,
}

struct Entry {
    stage: Stage,
    prev: *const Node,
    next: *const Node,
    round: u64,
    waker: Option<Waker>,
}

/// Wakes whoever it is.
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        let _ = catch(|| waker.wake());
    }
}

/// Drops a waker that is not wanted any more.
pub(crate) fn let_go(waker: Option<Waker>) {
    if let Some(waker) = waker {
        let _ = catch(|| drop(waker));
    }
}

impl<S> Gate<S> {
    pub(crate) const fn new(state: S) -> Self {
        let line = Line { head: ptr::null(), tail: ptr::null(), round: 0 };
        Self { inner: Lock::new(Inner { state, line }) }
    }

    /// Runs `f` on the state and the line. As for [`Lock::with`], it runs no user code: wakers and
    /// values are handed out of it.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut S, &mut Line) -> R) -> R {
        self.inner.with(|inner| f(&mut inner.state, &mut inner.line))
    }

    /// Changes the state and calls all who wait at that moment; those who come meanwhile are not
    /// called.
    pub(crate) fn call_all<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let (changed, round) = self.with(|state, line| {
            line.round += 1;
            (change(state), line.round)
        });
        while let Some(waker) = self.with(|_, line| line.call_before(round)) {
            wake(Some(waker));
        }
        changed
    }
}

impl Line {
    /// 2: calls the first; the caller wakes it, once the lock is free.
    pub(crate) fn call_first(&mut self) -> Option<Waker> {
        self.call_before(u64::MAX)
    }

    /// 2: calls the first, if it came in an earlier round.
    fn call_before(&mut self, round: u64) -> Option<Waker> {
        let first = self.head;
        // SAFETY: a node in the line is alive (see the module's head), and the lock is held.
        let entry = unsafe { first.as_ref()?.entry.get() };
        // SAFETY: as above; no reference to the entry is kept anywhere.
        if unsafe { (*entry).round } >= round {
            return None;
        }
        self.unlink(first);
        // SAFETY: as above.
        unsafe {
            (*entry).stage = Stage::Called;
            (*entry).waker.take()
        }
    }

    /// 1: to the end of the line.
    fn link(&mut self, node: *const Node) {
        let tail = core::mem::replace(&mut self.tail, node);
        // SAFETY: the node is pinned and waits; its neighbour in the line is alive. The lock is
        // held, and no reference to an entry is kept anywhere.
        unsafe {
            let entry = (*node).entry.get();
            (*entry).stage = Stage::Waiting;
            (*entry).round = self.round;
            (*entry).prev = tail;
            (*entry).next = ptr::null();
            match tail.is_null() {
                true => self.head = node,
                false => (*(*tail).entry.get()).next = node,
            }
        }
    }

    /// Out of the line.
    fn unlink(&mut self, node: *const Node) {
        // SAFETY: the node is in this line, so it and its neighbours are alive. The lock is held,
        // and no reference to an entry is kept anywhere.
        unsafe {
            let entry = (*node).entry.get();
            let (prev, next) = ((*entry).prev, (*entry).next);
            match prev.is_null() {
                true => self.head = next,
                false => (*(*prev).entry.get()).next = next,
            }
            match next.is_null() {
                true => self.tail = prev,
                false => (*(*next).entry.get()).prev = prev,
            }
        }
    }
}

impl<'a, S> Place<'a, S> {
    pub(crate) const fn new(gate: &'a Gate<S>) -> Self {
        let entry = Entry {
            stage: Stage::Away,
            prev: ptr::null(),
            next: ptr::null(),
            round: 0,
            waker: None,
        };
        let node = Node { entry: UnsafeCell::new(entry), _pinned: PhantomPinned };
        Self { gate, begun: Cell::new(false), node }
    }

    /// Whether it was polled, and neither ready nor left since.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Asks `f`, which is told whether this place was called. Where it says `Pending`, the place
    /// waits (at the line's end, if it was not in it), and is woken through `cx`.
    pub(crate) fn poll<R>(
        self: Pin<&Self>,
        cx: &Context<'_>,
        f: impl FnOnce(&mut S, &mut Line, bool) -> Poll<R>,
    ) -> Poll<R> {
        let waker = cx.waker().clone();
        self.begun.set(true);
        let node = &raw const self.node;
        let entry = self.node.entry.get();
        let (polled, (before, unused)) = self.gate.with(|state, line| {
            // SAFETY: under the lock; no reference to the entry is kept anywhere.
            let stage = unsafe { (*entry).stage };
            let polled = f(state, line, stage == Stage::Called);
            if polled.is_ready() {
                self.begun.set(false);
                return (polled, (self.away(line), Some(waker)));
            }
            // SAFETY: as above.
            let before = unsafe { (*entry).waker.replace(waker) };
            if stage != Stage::Waiting {
                line.link(node);
            }
            (polled, (before, None))
        });
        let_go(before);
        let_go(unused);
        polled
    }

    /// 3: leaves, if it is not away; `f` is told whether it had been called.
    pub(crate) fn leave<R>(&self, f: impl FnOnce(&mut S, &mut Line, bool) -> R) -> R {
        self.begun.set(false);
        let entry = self.node.entry.get();
        let (left, unused) = self.gate.with(|state, line| {
            // SAFETY: under the lock; no reference to the entry is kept anywhere.
            let called = unsafe { (*entry).stage == Stage::Called };
            let waker = self.away(line);
            (f(state, line, called), waker)
        });
        let_go(unused);
        left
    }

    /// Out of the line, if it is in it. Its waker is to be dropped once the lock is free.
    fn away(&self, line: &mut Line) -> Option<Waker> {
        let entry = self.node.entry.get();
        // SAFETY: the lock is held, of which `line` is the proof; no reference to the entry is kept
        // anywhere.
        let stage = unsafe { core::mem::replace(&mut (*entry).stage, Stage::Away) };
        if stage == Stage::Waiting {
            line.unlink(&raw const self.node);
        }
        // SAFETY: as above.
        unsafe { (*entry).waker.take() }
    }
}

impl<S> Drop for Place<'_, S> {
    fn drop(&mut self) {
        if self.begun.get() {
            self.leave(|_, _, _| ());
        }
    }
}
