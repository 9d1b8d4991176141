//! What happened on a worker, event by event: the life of tasks and operations. With the feature `trace`;
//! without it nothing of this is compiled in.
//!
//! Each worker writes its events into a static ring of its own, the newest 8,192 (256 KiB, which the
//! footprint counts), and costs a read of the clock for each. Any thread reads them while the worker
//! goes on:
#![cfg_attr(feature = "trace", doc = "```no_run")]
#![cfg_attr(not(feature = "trace"), doc = "```ignore")]
//! # async fn echo(_: kio::net::TcpStream) -> kio::Result<()> { Ok(()) }
//! # kio::pool! { struct Echo; listen = { "127.0.0.1:7000" => echo }, }
//! # fn main() -> kio::Result<()> {
//! let pool = Echo::start()?;
//! // .. and while it serves, or after:
//! for event in pool.trace(0) {
//!     println!("{event}");
//! }
//! let mut file = std::io::BufWriter::new(std::fs::File::create("echo.json")?);
//! pool.write_trace(&mut file)?; // for ui.perfetto.dev, or chrome://tracing
//! # Ok(())
//! # }
//! ```
//!
//! The example `trace` shows the life of one echo so.

#[cfg(feature = "trace")]
mod event;
#[cfg(feature = "trace")]
mod json;
#[cfg(not(feature = "trace"))]
mod off;
#[cfg(feature = "trace")]
mod on;

#[cfg(feature = "trace")]
pub use event::{Event, Kind};
#[cfg(feature = "trace")]
pub(crate) use json::write;
#[cfg(not(feature = "trace"))]
pub(crate) use off::{Kind, Trace};
#[cfg(feature = "trace")]
pub(crate) use on::Trace;
