//! One worker: its parts in one static, the handle to them, and the loop.

mod core;
mod hash;
mod parts;
#[cfg(feature = "std")]
mod resolver;
mod shared;
mod signals;
#[cfg(feature = "std")]
mod turn;

pub use self::core::{Core, Stopping};
pub(crate) use hash::{hash, pick};
pub(crate) use parts::CoreMemory;
pub use parts::{OnError, Parts};
#[cfg(feature = "std")]
pub(crate) use resolver::Resolver;
pub use shared::Shared;
#[cfg(feature = "std")]
pub(crate) use shared::{Barrier, Phase, Port};
pub use signals::{Signal, Signals};
#[cfg(feature = "std")]
pub(crate) use turn::{Loop, LoopSetup};
