//! The futures of time.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use pin_project_lite::pin_project;

use super::{Instant, Timers};
use crate::task::WaitNode;

pin_project! {
    /// Waits until a moment; see `Core::sleep`. Ready at once after the worker has stopped.
    ///
    /// Cancel safety: dropped, it is off the wheel.
    #[must_use = "it does nothing until awaited"]
    pub struct Sleep {
        timers: &'static Timers,
        deadline: Instant,
        #[pin]
        node: WaitNode,
    }
}

impl Sleep {
    pub(crate) fn until(timers: &'static Timers, deadline: Instant) -> Self {
        Self { timers, deadline, node: WaitNode::new() }
    }

    /// The moment it waits for.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Some(tasks) = this.timers.tasks.get().filter(|tasks| tasks.owner.is_current()) else {
            return Poll::Ready(());
        };
        if this.timers.turn() >= this.deadline.0 || tasks.closed.get() {
            this.node.leave();
            return Poll::Ready(());
        }
        this.timers.set(this.node.into_ref(), this.deadline.0, tasks, cx);
        Poll::Pending
    }
}

/// The time was over first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl core::error::Error for Elapsed {}

impl From<Elapsed> for crate::Error {
    fn from(_: Elapsed) -> Self {
        Self::TimedOut
    }
}

pin_project! {
    /// A future with a deadline; see `Core::timeout`.
    #[must_use = "it does nothing until awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    pub(crate) fn new(future: F, sleep: Sleep) -> Self {
        Self { future, sleep }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        this.sleep.poll(cx).map(|()| Err(Elapsed))
    }
}

/// Ticks at a fixed rate; see `Core::interval`.
pub struct Interval {
    timers: &'static Timers,
    next: Instant,
    period: Duration,
}

impl Interval {
    pub(crate) fn new(timers: &'static Timers, period: Duration) -> Self {
        Self { timers, next: Instant::now() + period, period }
    }

    /// Waits for the next tick and returns its moment. Ticks that were missed are skipped, so a
    /// late one is not followed by a burst.
    ///
    /// Cancel safety: dropped, the tick is still to come.
    pub async fn tick(&mut self) -> Instant {
        Sleep::until(self.timers, self.next).await;
        let due = self.next;
        let late = Instant::now().since(due);
        let missed = (late.as_nanos() / self.period.as_nanos().max(1)) as u32;
        self.next = due + self.period * missed.saturating_add(1);
        due
    }
}
