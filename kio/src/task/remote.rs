//! What other threads touch: the stack of foreign wakes and the bell that ends a worker's sleep.
//!
//! A foreign wake sets the task's bit, pushes its index and rings the bell. The owner parks in three
//! steps: say "sleeping", look at the stack once more, sleep. Pushing and saying are both SeqCst, so
//! of a push and a park that race, at least one sees the other: no wake is lost, and at most one
//! bell is rung a sleep. This file stands alone, so that `tests/loom` checks it as it is.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

/// A task's place in the stack of foreign wakes.
pub(crate) struct RemoteLink {
    queued: AtomicU32,
    next: AtomicU32,
}

/// Indices that other threads made ready. Pushed one by one, taken all at once, so an index that
/// comes back meanwhile (ABA) does no harm.
pub(crate) struct RemoteStack {
    head: AtomicU32,
}

/// Whether the worker sleeps, and so whether a push must wake it.
pub(crate) struct Bell {
    sleeping: AtomicU32,
}

macro_rules! const_unless_loom {
    ($($(#[$attr:meta])* fn $name:ident() -> Self $body:block)*) => {
        $(
            $(#[$attr])*
            #[cfg(not(loom))]
            pub(crate) const fn $name() -> Self $body
            #[cfg(loom)]
            pub(crate) fn $name() -> Self $body
        )*
    };
}

impl RemoteLink {
    const_unless_loom! {
        fn new() -> Self { Self { queued: AtomicU32::new(0), next: AtomicU32::new(0) } }
    }
}

impl RemoteStack {
    const_unless_loom! {
        fn new() -> Self { Self { head: AtomicU32::new(0) } }
    }

    /// Pushes `index`, whose link is `link`; from any thread. Does nothing where it is queued.
    pub(crate) fn push(&self, index: u32, link: &RemoteLink) -> bool {
        if link.queued.swap(1, Ordering::AcqRel) == 1 {
            return false;
        }
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.next.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(
                head,
                index + 1,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Whether nothing was pushed, at a glance.
    pub(crate) fn seems_empty(&self) -> bool {
        self.head.load(Ordering::Acquire) == 0
    }

    /// Whether nothing was pushed: the look before sleeping. A read-modify-write, so that a push
    /// which it does not see comes after it, and sees "sleeping".
    pub(crate) fn is_empty(&self) -> bool {
        self.head.fetch_or(0, Ordering::SeqCst) == 0
    }

    /// Takes all indices and gives each to `each`; by the owner only. The bit is cleared by a
    /// read-modify-write: a plain store would let the last poll miss what the waker wrote.
    pub(crate) fn take<'a>(&self, link: impl Fn(u32) -> &'a RemoteLink, mut each: impl FnMut(u32)) {
        let mut at = self.head.swap(0, Ordering::AcqRel);
        while at != 0 {
            let index = at - 1;
            let taken = link(index);
            at = taken.next.load(Ordering::Relaxed);
            taken.queued.swap(0, Ordering::AcqRel);
            each(index);
        }
    }
}

impl Bell {
    const_unless_loom! {
        fn new() -> Self { Self { sleeping: AtomicU32::new(0) } }
    }

    /// Says that the owner is about to sleep. It must look for work once more after this. A swap
    /// and not a store: what looks for work, and the swap of `must_ring`, are ordered after it.
    pub(crate) fn say_sleeping(&self) {
        self.sleeping.swap(1, Ordering::SeqCst);
    }

    /// Says that the owner is awake.
    pub(crate) fn say_awake(&self) {
        self.sleeping.store(0, Ordering::Relaxed);
    }

    /// Whether the owner sleeps, for one that has pushed and will look with `must_ring` later. A
    /// read-modify-write, as that is.
    pub(crate) fn is_sleeping(&self) -> bool {
        self.sleeping.fetch_or(0, Ordering::SeqCst) == 1
    }

    /// Whether the caller, who has pushed, must wake the owner. At most one is told so a sleep.
    pub(crate) fn must_ring(&self) -> bool {
        self.sleeping.swap(0, Ordering::SeqCst) == 1
    }
}
