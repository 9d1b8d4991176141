//! The raw mutex for `embassy-sync`'s types between tasks of one worker.

use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use embassy_sync::blocking_mutex::raw::RawMutex;

use super::owner::thread_pointer;
use super::roll;

/// Lowest bit of the state: held. Thread pointers are aligned, so theirs is 0.
const HELD: usize = 1;

/// A raw mutex for what tasks of one worker share: `embassy_sync`'s `Channel`, `Signal`, `Mutex`,
/// `Semaphore` and so on, in a plain `static`.
///
/// It belongs to the first worker that uses it, and checks that at each use: never blocks, and tells
/// of what was meant for one worker and is used by two. Once its worker has ended, the next that uses
/// it has it, so statics serve a pool that starts again. A thread that is no worker may use it while
/// it belongs to none.
///
/// Cost: a use is one compare-and-exchange and two stores, on a cache line that stays with its worker.
///
/// # Panics
/// Its use panics on another thread while it belongs to a worker that runs, and where two threads
/// use it in the same moment. What crosses workers is [`Channel`](crate::sync::Channel),
/// [`Event`](crate::sync::Event) and [`Baton`](crate::sync::Baton).
///
/// ```
/// use embassy_sync::channel::Channel;
/// use kio::sync::WorkerRawMutex;
///
/// static JOBS: Channel<WorkerRawMutex, u32, 8> = Channel::new();
/// # JOBS.try_send(1).unwrap();
/// ```
pub struct WorkerRawMutex {
    /// The thread pointer of whom it belongs to, 0 at first; and `HELD`.
    ///
    /// ```text
    ///       lock             end of lock         lock
    ///  0 ----1----> A, held ------2-----> A ------1-----> A, held
    ///                                     |
    ///                                     +-----3-----> B, held
    ///                     lock by B; A is no worker in its loop, or is not the A it was
    /// ```
    state: AtomicUsize,
    /// When it was last used, by [`roll::begun`]: a later worker may have the same thread pointer.
    used: AtomicU64,
}

impl WorkerRawMutex {
    /// One that belongs to nobody yet.
    pub const fn new() -> Self {
        Self { state: AtomicUsize::new(0), used: AtomicU64::new(0) }
    }

    /// 3, and the first 1. Whom it belongs to matters to the check only: that one thread at a time is
    /// inside rests on the exchange.
    #[cold]
    fn take_over(&self, thread: usize, mut now: usize) {
        loop {
            let used = self.used.load(Ordering::Relaxed);
            assert!(
                now & HELD == 0 && (now == thread || !roll::is_still_worker(now, used)),
                "kio: a `WorkerRawMutex` of one worker is used on another thread: between workers \
                 use `kio::sync`'s `Channel`, `Event` or `Baton`"
            );
            match self.exchange(now, thread | HELD) {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
    }

    #[inline]
    fn exchange(&self, from: usize, to: usize) -> Result<usize, usize> {
        self.state.compare_exchange(from, to, Ordering::Acquire, Ordering::Acquire)
    }
}

impl Default for WorkerRawMutex {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WorkerRawMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerRawMutex")
    }
}

/// Ends a use, on an unwind too.
struct Inside<'a> {
    state: &'a AtomicUsize,
    thread: usize,
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.state.store(self.thread, Ordering::Release);
    }
}

// SAFETY: `f` runs only after this thread changed the state from free to held by itself, or within
// such an `f` of the same thread; while it is held nobody but `Inside` changes it. So no two threads
// are inside at once, whoever they are and whatever the roll says. A thread pointer tells living
// threads apart, and one that is inside lives.
unsafe impl RawMutex for WorkerRawMutex {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait's way to make one")]
    const INIT: Self = Self::new();

    #[inline]
    fn lock<R>(&self, f: impl FnOnce() -> R) -> R {
        let thread = thread_pointer();
        match self.exchange(thread, thread | HELD) {
            Err(now) if now == thread | HELD => return f(), // nested
            Err(now) => self.take_over(thread, now),
            Ok(_) => {}
        }
        self.used.store(roll::begun(), Ordering::Relaxed);
        let _inside = Inside { state: &self.state, thread };
        f()
    }
}
