//! A one-shot event that any thread sets and one task awaits.
//!
//! Setting is one atomic operation and at most one wake, and takes no lock, so it may be done where
//! nothing may wait. `tests/loom` checks this file as it is.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::task::{let_go, wake};

#[cfg(not(loom))]
use {
    atomic_waker::AtomicWaker,
    core::sync::atomic::{AtomicU32, Ordering},
};
#[cfg(loom)]
use {
    loom::future::AtomicWaker,
    loom::sync::atomic::{AtomicU32, Ordering},
};

/// Bits of the state.
const SET: u32 = 1;
const AWAITED: u32 = 2;

/// An event that any thread sets, once, and one task awaits.
///
/// In a static, or by reference; it allocates nothing. For more than one task there is
/// [`Event`](super::Event).
///
/// ```
/// use kio::sync::Baton;
///
/// static READY: Baton = Baton::new();
///
/// async fn task() {
///     READY.wait().await;
/// }
///
/// std::thread::spawn(|| READY.set());
/// # embassy_futures::block_on(task());
/// ```
pub struct Baton {
    /// ```text
    ///              wait             set
    ///      Idle ----1---> Awaited ---2---> Set, awaited
    ///       ^ | ^--3 (dropped)--+               |
    /// reset 5 +--2: set--> Set <-------3--------+
    ///       +---------------+
    /// ```
    state: AtomicU32,
    waker: AtomicWaker,
}

impl Baton {
    /// One that is not set.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(0), waker: AtomicWaker::new() }
    }

    #[cfg(loom)]
    pub fn new() -> Self {
        Self { state: AtomicU32::new(0), waker: AtomicWaker::new() }
    }

    /// 2: sets it, from any thread, and wakes the task that waits. What the caller wrote before is
    /// seen after `wait`. Returns false, and does nothing, where it was set.
    ///
    /// Takes no lock and never waits.
    pub fn set(&self) -> bool {
        let before = self.state.fetch_or(SET, Ordering::AcqRel);
        if before & SET != 0 {
            return false;
        }
        // One who comes to wait after this sees `SET`.
        if before & AWAITED != 0 {
            wake(self.take_waker());
        }
        true
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.state.load(Ordering::Acquire) & SET != 0
    }

    /// Waits until it is set; ready at once where it is. It stays set.
    ///
    /// Cancel safety: nothing is lost, and another may wait. One that was polled and is *forgotten*
    /// keeps the one place of the baton for good.
    ///
    /// # Panics
    /// When polled, if another task waits already.
    pub fn wait(&self) -> BatonWait<'_> {
        BatonWait { baton: self, awaits: false }
    }

    /// 5: makes it as new, if nobody waits; false where somebody does.
    pub fn reset(&self) -> bool {
        // Acquire: what the waiter read of the setter's comes before what the next setter writes.
        let reset = self.state.compare_exchange(SET, 0, Ordering::AcqRel, Ordering::Acquire);
        !matches!(reset, Err(now) if now & AWAITED != 0)
    }
}

impl Default for Baton {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Baton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "Baton(set)" } else { "Baton(not set)" })
    }
}

/// Waits for a baton; see [`Baton::wait`].
#[must_use = "it does nothing until awaited"]
pub struct BatonWait<'a> {
    baton: &'a Baton,
    /// Whether the baton's one place is ours.
    awaits: bool,
}

impl BatonWait<'_> {
    /// 3: gives the place up.
    fn leave(&mut self) {
        if core::mem::take(&mut self.awaits) {
            // The waker first: after the place was given up it may be another's.
            let_go(self.baton.take_waker());
            self.baton.state.fetch_and(!AWAITED, Ordering::AcqRel);
        }
    }
}

impl Baton {
    fn take_waker(&self) -> Option<core::task::Waker> {
        #[cfg(not(loom))]
        return self.waker.take();
        #[cfg(loom)]
        self.waker.take_waker()
    }
}

impl Future for BatonWait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.baton.is_set() {
            if !this.awaits {
                let before = this.baton.state.fetch_or(AWAITED, Ordering::AcqRel);
                assert!(
                    before & AWAITED == 0,
                    "kio: one task waits for a `Baton`, and another does already: what many wait \
                     for is an `Event`"
                );
                this.awaits = true;
            }
            #[cfg(not(loom))]
            this.baton.waker.register(cx.waker());
            #[cfg(loom)]
            this.baton.waker.register_by_ref(cx.waker());
            // Set before the waker was there: nobody wakes us.
            if !this.baton.is_set() {
                return Poll::Pending;
            }
        }
        this.leave();
        Poll::Ready(())
    }
}

impl Drop for BatonWait<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
