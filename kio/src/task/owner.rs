//! Which thread owns a worker's memory.
//!
//! Everything a worker keeps is plain memory that one thread touches. Handles are `!Send`, so they
//! stay on that thread; yet one hidden in a thread-local outlives the worker's loop. Each use of a
//! handle therefore asks [`Owner::is_current`], which is one load and one compare, and is refused
//! once the loop has ended.

use core::sync::atomic::{AtomicUsize, Ordering};

/// The thread that owns a worker, by its thread pointer; 0 while no loop runs.
pub(crate) struct Owner {
    thread: AtomicUsize,
    #[cfg(feature = "embassy-sync")]
    listed: super::roll::Entry,
}

impl Owner {
    pub(crate) const fn new() -> Self {
        Self {
            thread: AtomicUsize::new(0),
            #[cfg(feature = "embassy-sync")]
            listed: super::roll::Entry::new(),
        }
    }

    /// Makes the calling thread the owner.
    pub(crate) fn claim(&'static self) {
        #[cfg(feature = "embassy-sync")]
        super::roll::enter(self);
        self.thread.store(thread_pointer(), Ordering::Relaxed);
    }

    /// Ends the ownership: from here on every handle is refused.
    pub(crate) fn release(&self) {
        self.thread.store(0, Ordering::Relaxed);
    }

    /// The owner's thread pointer, for a look that decides nothing of memory.
    #[cfg(feature = "embassy-sync")]
    pub(super) fn thread(&self) -> usize {
        self.thread.load(Ordering::Relaxed)
    }

    #[cfg(feature = "embassy-sync")]
    pub(super) fn listed(&self) -> &super::roll::Entry {
        &self.listed
    }

    /// Whether the calling thread is the owner. Relaxed is enough: a thread always sees its own
    /// stores, and no other thread's pointer equals its own while both live.
    #[inline(always)]
    pub(crate) fn is_current(&self) -> bool {
        self.thread.load(Ordering::Relaxed) == thread_pointer()
    }
}

/// The calling thread's pointer: unique among living threads, never 0.
#[inline(always)]
pub(crate) fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the x86-64 ABI keeps the thread control block's own address at fs:0.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("mov {}, fs:0", out(reg) pointer,
            options(nostack, preserves_flags, readonly, pure));
    }
    // SAFETY: reading the thread pointer register has no effect. (Compiled, not tested.)
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer,
            options(nostack, preserves_flags, nomem, pure));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    compile_error!("kio knows the thread pointer of x86-64 and aarch64 only");
    pointer
}
