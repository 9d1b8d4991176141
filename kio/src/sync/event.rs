//! An event that many tasks, of any workers, wait for.

use core::fmt;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::task::{Gate, Place};

/// An event that any thread sets, and any number of tasks of any workers await.
///
/// In a static, or by reference. Those who wait are bounded by nothing: each brings its place in the
/// line in its own future.
///
/// ```
/// use kio::sync::Event;
///
/// static RELOADED: Event = Event::new();
///
/// async fn task() {
///     RELOADED.wait().await;
/// }
///
/// std::thread::spawn(|| RELOADED.set());
/// # embassy_futures::block_on(embassy_futures::join::join(task(), task()));
/// ```
pub struct Event {
    /// Written under the gate's lock only; read without it where a late answer does no harm.
    set: AtomicBool,
    gate: Gate<()>,
}

impl Event {
    /// One that is not set.
    pub const fn new() -> Self {
        Self { set: AtomicBool::new(false), gate: Gate::new(()) }
    }

    /// Sets it, from any thread, and wakes all that wait. It stays set. What the caller wrote before
    /// is seen after `wait`.
    ///
    /// Takes a lock that is held for a few instructions, once for each that waits.
    pub fn set(&self) {
        self.gate.call_all(|()| self.set.store(true, Ordering::Release));
    }

    /// Makes it not set. Those who waited when it was set are woken all the same.
    pub fn reset(&self) {
        self.gate.with(|(), _| self.set.store(false, Ordering::Release));
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Waits until it is set; ready at once where it is.
    ///
    /// Cancel safety: nothing is lost. One that is forgotten keeps nobody from anything.
    pub fn wait(&self) -> EventWait<'_> {
        EventWait { event: self, place: Place::new(&self.gate) }
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "Event(set)" } else { "Event(not set)" })
    }
}

pin_project! {
    /// Waits for an event; see [`Event::wait`].
    #[must_use = "it does nothing until awaited"]
    pub struct EventWait<'a> {
        event: &'a Event,
        #[pin]
        place: Place<'a, ()>,
    }
}

impl Future for EventWait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let (event, place) = (*this.event, this.place.into_ref());
        if !place.has_begun() && event.is_set() {
            return Poll::Ready(());
        }
        place.poll(
            cx,
            |(), _, called| {
                if called || event.is_set() { Poll::Ready(()) } else { Poll::Pending }
            },
        )
    }
}
