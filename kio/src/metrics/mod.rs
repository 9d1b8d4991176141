//! What a worker counts about itself, and how it is told.
//!
//! One thread writes, any thread may read: plain loads and stores of whole words, so counting costs
//! an add and reading stops nobody. The counters are on the lowest floor; what serves them, on the
//! highest.

mod counters;
mod ops;
mod turns;
mod usage;

pub use counters::Stats;
pub(crate) use counters::{Counter, Counters};
pub use ops::Ops;
pub(crate) use ops::{Op, OpCounters};
pub use turns::TurnTimes;
pub(crate) use turns::Turns;
pub(crate) use usage::Gauge;
pub use usage::Usage;
