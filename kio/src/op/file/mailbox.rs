//! How requests travel between workers, and how they wait in line: linked through themselves, by
//! whoever holds them.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::Request;

/// Requests that other workers posted to this one. Pushed one by one and taken all at once, so a
/// request that comes back meanwhile (ABA) does no harm.
pub(crate) struct Mailbox {
    head: AtomicPtr<Request>,
}

impl Mailbox {
    pub(super) const fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Posts a request; from any worker that holds it. The pusher rings the owner's bell after.
    pub(super) fn push(&self, request: &'static Request) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            request.next.set(head);
            // SeqCst, as the bell is: of a post and a worker that falls asleep, one sees the other.
            match self.head.compare_exchange_weak(
                head,
                ptr::from_ref(request).cast_mut(),
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether nothing was posted. The look before sleeping, too.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst).is_null()
    }

    /// Takes all, in the order in which they were posted.
    pub(super) fn take(&self) -> Queue {
        let mut newest = self.head.swap(ptr::null_mut(), Ordering::AcqRel).cast_const();
        let taken = Queue::new();
        // SAFETY: requests are static, and what was posted is ours now.
        while let Some(request) = unsafe { newest.as_ref() } {
            newest = request.next.get();
            taken.push_front(request);
        }
        taken
    }
}

/// Requests in line, first come first served. Of one worker.
pub(super) struct Queue {
    head: Cell<*const Request>,
    tail: Cell<*const Request>,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { head: Cell::new(ptr::null()), tail: Cell::new(ptr::null()) }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// Adds a request that this worker holds and that is in no line.
    #[inline]
    pub(super) fn push(&self, request: &'static Request) {
        request.next.set(ptr::null());
        // SAFETY: null, or a static request in this line.
        match unsafe { self.tail.replace(request).as_ref() } {
            None => self.head.set(request),
            Some(tail) => tail.next.set(request),
        }
    }

    fn push_front(&self, request: &'static Request) {
        request.next.set(self.head.replace(request));
        if self.tail.get().is_null() {
            self.tail.set(request);
        }
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<&'static Request> {
        // SAFETY: null, or a static request in this line.
        let request = unsafe { self.head.get().as_ref() }?;
        let next = request.next.replace(ptr::null());
        self.head.set(next);
        if next.is_null() {
            self.tail.set(ptr::null());
        }
        Some(request)
    }
}
