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
            // SAFETY: null, or a static request that was posted.
            request.next.set(unsafe { head.as_ref() });
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
        let newest = self.head.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: null, or a static request; what was posted is ours now.
        let mut newest: Option<&'static Request> = unsafe { newest.as_ref() };
        let taken = Queue::new();
        while let Some(request) = newest {
            newest = request.next.get();
            taken.push_front(request);
        }
        taken
    }
}

/// Requests in line, first come first served. Of one worker.
pub(super) struct Queue {
    head: Cell<Option<&'static Request>>,
    /// The last one; of no meaning while there is none.
    tail: Cell<Option<&'static Request>>,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { head: Cell::new(None), tail: Cell::new(None) }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// Adds a request that this worker holds and that is in no line.
    #[inline]
    pub(super) fn push(&self, request: &'static Request) {
        request.next.set(None);
        match self.tail.replace(Some(request)) {
            Some(tail) if !self.is_empty() => tail.next.set(Some(request)),
            _ => self.head.set(Some(request)),
        }
    }

    fn push_front(&self, request: &'static Request) {
        if self.is_empty() {
            self.tail.set(Some(request));
        }
        request.next.set(self.head.replace(Some(request)));
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<&'static Request> {
        let request = self.head.get()?;
        self.head.set(request.next.get());
        Some(request)
    }
}
