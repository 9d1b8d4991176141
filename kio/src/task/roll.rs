//! The roll of workers: every worker of the process that ever ran, of whatever pool.
//!
//! Owners are statics and stay on the roll, so it is a list that only grows, once a static. It
//! answers whether a thread is a worker that runs; it is asked where something looks wrong, so it is
//! walked and not indexed.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::owner::Owner;

static FIRST: AtomicPtr<Owner> = AtomicPtr::new(ptr::null_mut());

/// An owner's place on the roll.
pub(super) struct Entry {
    on_it: AtomicBool,
    next: AtomicPtr<Owner>,
}

impl Entry {
    pub(super) const fn new() -> Self {
        Self { on_it: AtomicBool::new(false), next: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// Puts the owner on the roll, unless it is on it.
pub(super) fn enter(owner: &'static Owner) {
    let entry = owner.listed();
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

/// Whether the thread with this pointer is a worker in its loop. Exact for the caller's own thread;
/// of another it may be out of date by the time it is answered.
pub(super) fn is_worker(thread: usize) -> bool {
    let mut at = FIRST.load(Ordering::Acquire);
    // SAFETY: what is on the roll came in as `&'static Owner`; each was published by the exchange
    // that made it first, which later ones continue (a release sequence).
    while let Some(owner) = unsafe { at.as_ref() } {
        if owner.thread() == thread {
            return true;
        }
        at = owner.listed().next.load(Ordering::Relaxed);
    }
    false
}
