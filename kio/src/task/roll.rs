//! The roll of workers: every worker of the process that ever ran, of whatever pool.
//!
//! Owners are statics and stay on the roll, so it is a list that only grows, once a static. It
//! answers whether a thread is still the worker that it was; it is asked where something looks wrong,
//! so it is walked and not indexed. Thread pointers come again, with the stacks of threads that
//! ended: so runs are numbered.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use super::owner::Owner;

static FIRST: AtomicPtr<Owner> = AtomicPtr::new(ptr::null_mut());

/// How many workers have begun to run.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// An owner's place on the roll.
pub(super) struct Entry {
    /// Which of all runs it is in, from 1.
    run: AtomicU64,
    on_it: AtomicBool,
    next: AtomicPtr<Owner>,
}

impl Entry {
    pub(super) const fn new() -> Self {
        Self {
            run: AtomicU64::new(0),
            on_it: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

/// A moment, as the number of runs begun by now; the calling thread's own is among them.
#[inline]
pub(super) fn begun() -> u64 {
    BEGUN.load(Ordering::Relaxed)
}

/// Begins a run of the owner, before it is anybody's. Puts it on the roll, unless it is on it.
pub(super) fn enter(owner: &'static Owner) {
    let entry = owner.listed();
    entry.run.store(BEGUN.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    if entry.on_it.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut first = FIRST.load(Ordering::Relaxed);
    loop {
        entry.next.store(first, Ordering::Relaxed);
        let new = ptr::from_ref(owner).cast_mut();
        match FIRST.compare_exchange_weak(first, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => first = now,
        }
    }
}

/// Whether the thread with this pointer is a worker in its loop, and was it at that moment. Of
/// another thread than the caller's it may be out of date by the time it is answered.
pub(super) fn is_still_worker(thread: usize, at: u64) -> bool {
    let mut next = FIRST.load(Ordering::Acquire);
    // SAFETY: what is on the roll came in as `&'static Owner`; each was published by the exchange
    // that made it first, which later ones continue (a release sequence).
    while let Some(owner) = unsafe { next.as_ref() } {
        let entry = owner.listed();
        if owner.thread() == thread && entry.run.load(Ordering::Relaxed) <= at {
            return true;
        }
        next = entry.next.load(Ordering::Relaxed);
    }
    false
}
