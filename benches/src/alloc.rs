//! The global allocator that counts: how many allocations, how many bytes.
//!
//! A server's `ready` takes a mark; what it prints at its end is what was allocated since.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// `System`, with a count. A reallocation counts as one allocation of its new size.
pub struct Counting;

/// Allocations since the process began.
#[derive(Clone, Copy, Default)]
pub struct Count {
    /// Calls of the allocator that return memory.
    pub calls: u64,
    /// Bytes asked for.
    pub bytes: u64,
}

impl Count {
    /// The count now.
    pub fn now() -> Self {
        Self { calls: CALLS.load(Relaxed), bytes: BYTES.load(Relaxed) }
    }

    /// What came after `mark`.
    pub fn since(self, mark: Self) -> Self {
        Self { calls: self.calls - mark.calls, bytes: self.bytes - mark.bytes }
    }
}

fn count(bytes: usize) {
    CALLS.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
}

// SAFETY: every call goes to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's obligations are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's obligations are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller's obligations are passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}
