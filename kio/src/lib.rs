//! kio: a thread-per-core io_uring runtime for Linux whose whole memory is declared before it runs.
//!
//! A server is `async fn`s and one declaration. [`pool!`] makes statics of it, as large as it says,
//! and a type with [`run`](pool!) and `FOOTPRINT`:
//!
//! ```no_run
//! use kio::net::TcpStream;
//!
//! async fn echo(mut conn: TcpStream) -> kio::Result<()> {
//!     while let Some(data) = conn.recv_idle().await? {
//!         conn.send(data).await?;
//!     }
//!     Ok(())
//! }
//!
//! kio::pool! {
//!     struct Echo;
//!     workers = 2,
//!     listen  = { "127.0.0.1:7000" => echo },
//!     conns   = 1024,
//!     buffers = 2048 x 16 KiB,
//!     budget  = 80 MiB,
//! }
//!
//! fn main() -> kio::Result<()> {
//!     println!("{}", Echo::FOOTPRINT);
//!     Echo::run()
//! }
//! ```
//!
//! # Where things are
//!
//! | you want | it is |
//! | --- | --- |
//! | to declare a pool | [`pool!`], with every key |
//! | the worker that runs you: its clock, buffers, tasks, sockets | [`Core`], from any handle by `.core()`. Library code takes it |
//! | the same, of your pool, with its state | [`Worker`], which derefs to it; [`State`] |
//! | to accept, connect, receive and send | [`net`]: [`net::Listener`], [`net::TcpStream`], and [`net::Stream`] for code that takes any |
//! | bytes carried from one stream to another, both ways | [`net::relay()`], [`net::relay_with`] |
//! | received bytes, and bytes to send | [`Buf`] to read and share, [`BufMut`] to write |
//! | TLS, by the kernel where it can | `tls`: `TlsAcceptor`, `TlsConnector`, `TlsStream` (features `ring`, `aws-lc-rs`, `tls`) |
//! | to open, read and write files; to append, and to know that it is on the device | [`fs`]: [`Core::open`], [`Core::open_with`] and [`fs::OpenOptions`], [`fs::File`], with what runs where |
//! | one worker for a path | `root` and `routes` of [`pool!`] |
//! | names and directories, and to replace a file as a whole | [`Core::stat`], [`Core::rename`], [`Core::read_dir`], [`Core::write_atomic`]; the changes want `allow = [paths]` |
//! | to run something on another worker | [`Worker::on`], and [`Core::by_key`] to choose one; from a plain thread [`Handle::on`] |
//! | to run things side by side | [`Core::spawn`], [`Core::reserve`], [`JoinHandle`] |
//! | tasks to meet, of one worker or of two; to select and join | [`sync`]: [`sync::Channel`], [`sync::Event`], [`sync::Baton`], a raw mutex for `embassy-sync`; what giving up each operation means |
//! | to wait, and to wait no longer | [`time`]: [`Core::sleep`], [`Core::timeout`], [`Core::deadline`], [`Core::interval`] |
//! | to stop, or to know of it | [`Core::stop`], [`Core::stopping`], `recv_idle` and `recv_idle_into`, `accept`'s [`Error::Stopped`] |
//! | a pool beside other threads, or in a test | [`Handle`], of `start` and `start_when_free` |
//! | to know what happens | [`Core::stats`], [`Core::usage`], the same of [`Handle`]; `on_error` and its [`Failure`] |
//! | the same for Prometheus, over HTTP | [`metrics::serve`], which `listen` takes; [`metrics::Page`] for numbers of one's own |
//! | log lines that hold up no worker | [`logger::Logger`], behind the `log` facade |
//! | to know what this kernel gives | [`probe`] |
//! | to know why it did not start | [`StartError`]: each text tells the remedy |
//!
//! # What holds everywhere
//!
//! - **From the start of a worker's loop to its end kio allocates nothing.** A table that is full
//!   makes work wait, in order of arrival, or gives it back (`spawn`, `try_push`, `try_buf`).
//! - **Every future may be dropped or forgotten at any point.** The kernel never touches memory that
//!   a future owns. What that means for the data stands at each operation, under "Cancel safety".
//! - **Handles are bound to their worker** (`!Send`), and it to its thread. Hidden past the end of
//!   the pool, in a thread-local say, they answer [`Error::Stopped`].
//! - **Sending has two steps.** `push` adds to the connection's outbox, `flush` sends it, and waits
//!   until the system has all of it; `send` is both. Pushed and never flushed is never sent: flush
//!   before you wait for the peer. `push_copy` and `send_copy` take bytes that are borrowed.
//! - **Errors tell cause and remedy**, in `Display` as in `Debug`, since `main` shows the latter.
//!
//! # Features
//!
//! - `std` (default): threads and the ring. Without it the crate builds, and nothing drives it yet.
//! - `embedded-io-async`: that crate's `Read`, `Write` and `BufRead` on streams.
//! - `trace`: events of tasks and operations in a ring a worker, to be looked at (module `trace`).
//! - `embassy-sync`: a raw mutex for that crate's types between tasks of one worker.
//! - `ring`, `aws-lc-rs`: TLS by rustls, with that provider of cryptography. `tls` alone has none: for
//!   who brings another. TLS alone brings `alloc`: handshakes allocate, and rustls' records.
//!
//! The README has the pictures, a first server step by step, what waits where under overload, and the
//! kernels.
#![no_std]
#![deny(missing_docs)]
// Without `std` there is no ring yet (the simulated one comes), so nothing drives what is here.
#![cfg_attr(not(feature = "std"), allow(dead_code, unused_imports))]

#[cfg(feature = "std")]
extern crate std;

/// Tests of the crate's own declare pools too.
#[cfg(all(test, feature = "tls"))]
extern crate self as kio;

// For TLS alone: rustls' handshakes allocate.
#[cfg(feature = "tls")]
extern crate alloc;

/// The README's code, compiled and run as this crate's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod buf;
mod error;
pub mod fs;
pub mod logger;
pub mod metrics;
pub mod net;
mod op;
mod pool;
mod ring;
pub mod sync;
mod task;
mod text;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "trace")]
pub mod trace;
#[cfg(not(feature = "trace"))]
mod trace;
mod worker;

pub use buf::{Buf, BufMut, NoRoom};
pub use error::{Error, Held, Result, StartError};
pub use kio_macros::pool;
pub use metrics::{Ops, Stats, TurnTimes, Usage};
#[cfg(feature = "std")]
pub use pool::Handle;
pub use pool::{Footprint, State, Worker};
#[cfg(feature = "std")]
pub use ring::{Probe, probe};
pub use task::{
    Call, CallError, Failure, FailureKind, JoinError, JoinHandle, Outcome, Reservation, Reserve,
    SpawnError, StateRef, TaskFn,
};
pub use worker::{Core, Signal, Signals, Stopping};

/// What the code of `pool!` uses. No part of the public API.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "std")]
    pub use crate::fs::path::root;
    pub use crate::fs::route::{Route, Target, route};
    pub use crate::pool::*;
    pub use crate::task::{Bytes, Failure, Owned, StateCell, TaskDecl};
    pub use crate::worker::Shared;
    pub use core;
}
