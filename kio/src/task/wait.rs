//! A queue of futures that wait for one thing, in order: an intrusive list through the futures.
//!
//! A node is pinned inside the future that waits, and its `Drop` takes it out: pinned memory is not
//! reused before `Drop` ran, so a list never names a node that is gone, whatever is forgotten. When
//! a worker ends it empties its lists, so a node that outlives it (hidden in a thread-local) is on
//! none.

use core::cell::Cell;
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr;
use core::task::Context;

use super::{Tasks, Waiter};

/// Futures that wait, first come first woken. Lives in a worker's static memory.
pub(crate) struct WaitList {
    head: Cell<*const WaitNode>,
    tail: Cell<*const WaitNode>,
}

/// The part of a future that is on a [`WaitList`].
pub(crate) struct WaitNode {
    /// The list this node is on; null while it is on none.
    list: Cell<*const WaitList>,
    prev: Cell<*const WaitNode>,
    next: Cell<*const WaitNode>,
    /// What the list's owner wants to know of it (a timer's tick).
    key: Cell<u64>,
    /// Woken since it last waited.
    woken: Cell<bool>,
    waiter: Waiter,
    _pinned: PhantomPinned,
}

impl WaitNode {
    pub(crate) const fn new() -> Self {
        Self {
            list: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            key: Cell::new(0),
            woken: Cell::new(false),
            waiter: Waiter::new(),
            _pinned: PhantomPinned,
        }
    }

    /// Whether it waits: false before the first wait and again once woken.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.list.get().is_null()
    }

    /// Waits on `list` (at its end, if it was on none) and is woken through `cx`.
    pub(crate) fn wait(self: Pin<&Self>, list: &'static WaitList, tasks: &Tasks, cx: &Context<'_>) {
        self.wait_keyed(list, 0, tasks, cx);
    }

    /// Whether it may take what is waited for on `list`: it was woken, or nobody is before it.
    pub(crate) fn has_turn(&self, list: &WaitList) -> bool {
        let first = self.is_waiting() && self.prev.get().is_null();
        self.woken.get() || first || list.is_empty()
    }

    /// Waits on `list` with a key, unless it waits already.
    pub(crate) fn wait_keyed(
        self: Pin<&Self>,
        list: &'static WaitList,
        key: u64,
        tasks: &Tasks,
        cx: &Context<'_>,
    ) {
        self.waiter.register(tasks, cx);
        if !self.is_waiting() {
            self.key.set(key);
            self.woken.set(false);
            self.get_ref().link(list);
        }
    }

    /// Waits on `list`: at its front where it was woken in vain, since its turn had come, and for as
    /// long as it has waited already; else at its end, since `now`.
    pub(crate) fn wait_turn(
        self: Pin<&Self>,
        list: &'static WaitList,
        now: u64,
        tasks: &Tasks,
        cx: &Context<'_>,
    ) {
        if !self.woken.get() || self.is_waiting() {
            return self.wait_keyed(list, now, tasks, cx);
        }
        self.waiter.register(tasks, cx);
        self.woken.set(false);
        self.get_ref().link_after(list, None);
    }

    /// Waits on `list` before all with a larger key, unless it waits already.
    pub(crate) fn wait_in_order(
        self: Pin<&Self>,
        list: &'static WaitList,
        key: u64,
        tasks: &Tasks,
        cx: &Context<'_>,
    ) {
        self.waiter.register(tasks, cx);
        if self.is_waiting() {
            return;
        }
        self.key.set(key);
        self.woken.set(false);
        // From the end, since most come with the largest key.
        // SAFETY: a node on the list is alive.
        let mut after = unsafe { list.tail.get().as_ref() };
        while let Some(node) = after.filter(|node| node.key.get() > key) {
            // SAFETY: as above.
            after = unsafe { node.prev.get().as_ref() };
        }
        self.get_ref().link_after(list, after);
    }

    /// Joins a list behind one of its nodes; before all with `None`. Only a pinned node does.
    fn link_after(&self, list: &'static WaitList, after: Option<&Self>) {
        let node: *const Self = self;
        let next = after.map_or(list.head.get(), |after| after.next.get());
        self.list.set(list);
        self.prev.set(after.map_or(ptr::null(), ptr::from_ref));
        self.next.set(next);
        match after {
            Some(after) => after.next.set(node),
            None => list.head.set(node),
        }
        match next.is_null() {
            true => list.tail.set(node),
            // SAFETY: a node on the list is alive (see the module's head).
            false => unsafe { (*next).prev.set(node) },
        }
    }

    /// Joins the end of a list. Only a pinned node does (see `wait_keyed`).
    fn link(&self, list: &'static WaitList) {
        let node: *const Self = self;
        self.list.set(list);
        self.next.set(ptr::null());
        self.prev.set(list.tail.get());
        match list.tail.replace(node) {
            tail if tail.is_null() => list.head.set(node),
            // SAFETY: a node on the list is alive (see the module's head).
            tail => unsafe { (*tail).next.set(node) },
        }
    }

    /// Leaves its list, if it is on one.
    pub(crate) fn leave(&self) {
        let list = self.list.replace(ptr::null());
        if list.is_null() {
            return;
        }
        let (prev, next) = (self.prev.get(), self.next.get());
        // SAFETY: lists are static, and a node's neighbours on it are alive (see the module's head).
        unsafe {
            match prev.is_null() {
                true => (*list).head.set(next),
                false => (*prev).next.set(next),
            }
            match next.is_null() {
                true => (*list).tail.set(prev),
                false => (*next).prev.set(prev),
            }
        }
    }
}

impl Drop for WaitNode {
    fn drop(&mut self) {
        self.leave();
    }
}

impl WaitList {
    pub(crate) const fn new() -> Self {
        Self { head: Cell::new(ptr::null()), tail: Cell::new(ptr::null()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// The first one's key.
    pub(crate) fn first_key(&self) -> Option<u64> {
        // SAFETY: a node on the list is alive.
        unsafe { self.head.get().as_ref() }.map(|node| node.key.get())
    }

    /// Moves the first to the end of another list.
    pub(crate) fn move_first(&self, to: &'static WaitList) {
        // SAFETY: a node on the list is alive, and pinned.
        if let Some(node) = unsafe { self.head.get().as_ref() } {
            node.leave();
            node.link(to);
        }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        let mut count = 0;
        let mut node = self.head.get();
        // SAFETY: a node on the list is alive, and nothing else runs between these steps.
        while let Some(on) = unsafe { node.as_ref() } {
            count += 1;
            node = on.next.get();
        }
        count
    }

    /// Wakes the first; false where nobody waits.
    pub(crate) fn wake_one(&self, tasks: &Tasks) -> bool {
        let head = self.head.get();
        if head.is_null() {
            return false;
        }
        // SAFETY: a node on the list is alive; after `leave` and `take` it is not touched again, so
        // the wake may run any user code.
        let waiter = unsafe {
            (*head).leave();
            (*head).woken.set(true);
            (*head).waiter.take()
        };
        waiter.wake(tasks);
        true
    }

    /// Wakes all that wait now; one that comes back while we wake waits for the next time.
    pub(crate) fn wake_all(&self, tasks: &Tasks) {
        for _ in 0..self.count() {
            self.wake_one(tasks);
        }
    }
}
