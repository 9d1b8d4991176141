//! A lock that is held for a few instructions: over what several threads keep together.
//!
//! A futex in three states, after Drepper's "Futexes are tricky". No user code runs under it (no
//! waker is cloned, woken or dropped, no value of the user's is dropped), so it is never taken twice
//! by one thread; a thread that meets it held spins a little, and sleeps in the kernel only where
//! its holder was preempted.

#[cfg(not(loom))]
pub(crate) use futex::Lock;
#[cfg(loom)]
pub(crate) use model::Lock;

#[cfg(not(loom))]
mod futex {
    use core::cell::UnsafeCell;
    use core::sync::atomic::{AtomicU32, Ordering};

    use rustix::thread::futex;

    const FREE: u32 = 0;
    const HELD: u32 = 1;
    /// Held, and others may sleep.
    const AWAITED: u32 = 2;

    /// Looks at a lock that is held before a thread sleeps: longer than it is held, by far.
    const SPINS: u32 = 100;

    /// A value that one thread at a time sees.
    ///
    /// ```text
    ///        with            acquire (another spun in vain)
    ///  Free ---1---> Held ---2---> Awaited
    ///    ^            |               |
    ///    +--3: drop---+--4: and wake--+
    /// ```
    pub(crate) struct Lock<S> {
        state: AtomicU32,
        value: UnsafeCell<S>,
    }

    // SAFETY: `with` lends the value to one thread at a time.
    unsafe impl<S: Send> Sync for Lock<S> {}

    /// Frees the lock, on an unwind too.
    struct Held<'a>(&'a AtomicU32);

    impl Drop for Held<'_> {
        #[inline]
        fn drop(&mut self) {
            if self.0.swap(FREE, Ordering::Release) == AWAITED {
                // It cannot fail: the address is aligned and mapped.
                let _ = futex::wake(self.0, futex::Flags::PRIVATE, 1);
            }
        }
    }

    impl<S> Lock<S> {
        pub(crate) const fn new(value: S) -> Self {
            Self { state: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
        }

        /// Runs `f` on the value. `f` runs no user code, and locks nothing.
        #[inline]
        pub(crate) fn with<R>(&self, f: impl FnOnce(&mut S) -> R) -> R {
            if !self.take() {
                self.acquire();
            }
            let _held = Held(&self.state);
            // SAFETY: the lock is held until `_held` is dropped, so no other reference exists: not on
            // another thread, and not on this one, since `f` does not come here again.
            f(unsafe { &mut *self.value.get() })
        }

        #[inline]
        fn take(&self) -> bool {
            self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
        }

        #[cold]
        fn acquire(&self) {
            for _ in 0..SPINS {
                core::hint::spin_loop();
                if self.state.load(Ordering::Relaxed) == FREE && self.take() {
                    return;
                }
            }
            while self.state.swap(AWAITED, Ordering::Acquire) != FREE {
                // Woken, interrupted, or changed meanwhile: look again.
                let _ = futex::wait(&self.state, futex::Flags::PRIVATE, AWAITED, None);
            }
        }
    }
}

/// The same to `tests/loom`, which cannot see a futex.
#[cfg(loom)]
mod model {
    use core::cell::UnsafeCell;
    use std::sync::OnceLock;

    pub(crate) struct Lock<S> {
        mutex: OnceLock<loom::sync::Mutex<()>>,
        value: UnsafeCell<S>,
    }

    // SAFETY: `with` lends the value to one thread at a time.
    unsafe impl<S: Send> Sync for Lock<S> {}

    impl<S> Lock<S> {
        pub(crate) const fn new(value: S) -> Self {
            Self { mutex: OnceLock::new(), value: UnsafeCell::new(value) }
        }

        pub(crate) fn with<R>(&self, f: impl FnOnce(&mut S) -> R) -> R {
            let mutex = self.mutex.get_or_init(|| loom::sync::Mutex::new(()));
            let _held = mutex.lock().unwrap();
            // SAFETY: the mutex is held.
            f(unsafe { &mut *self.value.get() })
        }
    }
}
