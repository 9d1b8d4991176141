//! Time: the clock, sleeping, timeouts and intervals on a static wheel.
//!
//! A sleep is a node pinned in its future and linked into the wheel: it is never refused and costs
//! no allocation, setting and cancelling are O(1), and the ring sees only the nearest deadline, as
//! the wait's timeout. Resolution is about half a millisecond.

mod instant;
mod sleep;
mod wheel;

pub use instant::Instant;
pub use sleep::{Elapsed, Interval, Sleep, Timeout};
pub(crate) use wheel::Timers;
