//! What a worker counts about itself, and how it is told: as [`Stats`], and as the text that
//! Prometheus reads, over HTTP.
//!
//! One thread writes, any thread may read: plain loads and stores of whole words, so counting costs
//! an add and reading stops nobody.
//!
//! [`serve`] answers one scrape; a pool declares it as it does its other handlers:
//!
//! ```no_run
//! # use kio::net::TcpStream;
//! # async fn echo(_: TcpStream) -> kio::Result<()> { Ok(()) }
//! kio::pool! {
//!     struct Echo;
//!     listen = {
//!         "127.0.0.1:7000" => echo,
//!         "127.0.0.1:9100" => kio::metrics::serve,
//!     },
//!     // Of each worker: no more scrapers at once, however many connect.
//!     tasks  = { kio::metrics::serve as metrics: 2 },
//! }
//! # fn main() {}
//! ```
//!
//! With an `entry` one task does it, for one scraper at a time:
//!
//! ```no_run
//! async fn entry(core: kio::Core) -> kio::Result<()> {
//!     if core.index() == 0 {
//!         core.spawn(move || kio::metrics::serve_on(core, ([127, 0, 0, 1], 9100).into()))?;
//!     }
//!     Ok(())
//! }
//!
//! kio::pool! {
//!     struct App;
//!     workers = 2,
//!     entry   = entry,
//!     tasks   = { kio::metrics::serve_on: 1 },
//! }
//! # fn main() {}
//! ```
//!
//! Either tells of all workers of the pool, whichever is asked. A scraper has ten seconds for its
//! request and for the reply, and costs a socket, a task and one buffer meanwhile; nothing is
//! allocated. Numbers of one's own go on the same page with [`serve_with`] and [`Page`].

// The counters are on the lowest floor of the crate; what serves them, on the highest.
mod counters;
mod ops;
mod page;
mod pool;
mod serve;
mod text;
mod turns;
mod usage;

pub use counters::Stats;
pub use ops::Ops;
pub use page::{Kind, Page};
#[cfg(feature = "std")]
pub use serve::serve_on;
pub use serve::{serve, serve_with};
pub use turns::TurnTimes;
pub use usage::Usage;

pub(crate) use counters::{Counter, Counters};
pub(crate) use ops::{Op, OpCounters};
pub(crate) use turns::Turns;
pub(crate) use usage::Gauge;
