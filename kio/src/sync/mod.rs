//! Where tasks meet: what goes between tasks of two workers, or a task and a plain thread; what
//! other crates give for the tasks of one worker; and what giving up means everywhere.
//!
//! | between | it is |
//! | --- | --- |
//! | any thread, and one task | [`Baton`]: set once, awaited by one |
//! | any thread, and any tasks | [`Event`]: set, and all who wait go on |
//! | tasks of any workers, and one | [`Channel`]: at most `N` values, full makes senders wait |
//! | tasks of one worker | `embassy_sync`'s `Channel`, `Signal`, `Mutex`, `Semaphore` .. over `WorkerRawMutex` (feature `embassy-sync`); a `Cell` or `RefCell` in the pool's [`State`](crate::State) where nothing awaits |
//! | futures of one task | `select` and `join` of `embassy-futures` or `futures-util` |
//!
//! All of it is `const` to make and lies in statics, or by reference; nothing allocates. What is
//! awaited here needs no worker: a plain thread may block on it with any executor. None of it ends
//! by itself when a pool stops: a task that waits is dropped with the others, once the worker has
//! drained, or selects on [`Core::stopping`](crate::Core::stopping).
//!
//! # Within a worker
//!
//! ```
//! # #[cfg(feature = "embassy-sync")]
//! # mod example {
//! use embassy_sync::mutex::Mutex;
//! use embassy_sync::signal::Signal;
//! use kio::sync::WorkerRawMutex;
//!
//! /// How many wait for the upstream, and what they are told. One worker's.
//! static WAITING: Mutex<WorkerRawMutex, u32> = Mutex::new(0);
//! static ANSWER: Signal<WorkerRawMutex, u64> = Signal::new();
//!
//! async fn ask() -> u64 {
//!     *WAITING.lock().await += 1;
//!     let answer = ANSWER.wait().await;
//!     *WAITING.lock().await -= 1;
//!     answer
//! }
//!
//! async fn upstream() {
//!     ANSWER.signal(42);
//! }
//! # pub fn run() { embassy_futures::block_on(embassy_futures::join::join(ask(), upstream())); }
//! # }
//! # #[cfg(feature = "embassy-sync")] example::run();
//! ```
//!
//! The mutex belongs to the first worker that uses it; a second one's use panics instead of sharing
//! what was meant for one. A pool of several workers keeps such things in its state, or one static
//! for each.
//!
//! # Between workers
//!
//! ```no_run
//! use embassy_futures::select::{Either, select};
//! use kio::Worker;
//! use kio::sync::{Baton, Channel};
//!
//! static LINES: Channel<[u8; 64], 128> = Channel::new();
//! static WRITTEN: Baton = Baton::new();
//!
//! kio::pool! {
//!     struct Log;
//!     workers = 2,
//!     entry = serve,
//! }
//!
//! async fn serve(worker: Worker<Log>) -> kio::Result<()> {
//!     if worker.index() == 0 { write(worker).await } else { make(worker).await }
//! }
//!
//! async fn make(worker: Worker<Log>) -> kio::Result<()> {
//!     let Some(lines) = LINES.sender() else { return Ok(()) };
//!     while !worker.is_stopping() {
//!         if lines.send([b'.'; 64]).await.is_err() {
//!             break; // the writer has gone
//!         } // it waits while 128 are there
//!     }
//!     Ok(())
//! }
//!
//! async fn write(worker: Worker<Log>) -> kio::Result<()> {
//!     let mut lines = LINES.receiver().expect("one worker takes it, once a run");
//!     loop {
//!         // `recv` is given up where the stop comes first: it loses nothing.
//!         match select(lines.recv(), worker.stopping()).await {
//!             Either::First(Some(line)) => drop(line), // to a file, say
//!             Either::First(None) | Either::Second(()) => break,
//!         }
//!     }
//!     WRITTEN.set();
//!     Ok(())
//! }
//! # fn main() {}
//! ```
//!
//! # Select and join
//!
//! `select` polls futures side by side and drops the others when one is ready; `join` waits for all.
//! Neither takes a slot or allocates: what they hold lies in the task's own future, on its worker.
//! [`Core::spawn`](crate::Core::spawn) is for what shall outlive the one who began it.
//!
//! ```
//! use embassy_futures::join::join;
//! use kio::net::TcpStream;
//!
//! /// Both directions at once; ends when both have.
//! async fn relay(mut a: TcpStream, mut b: TcpStream) -> kio::Result<()> {
//!     let ((mut from_a, mut to_a), (mut from_b, mut to_b)) = (a.split(), b.split());
//!     let there = async {
//!         while let Some(data) = from_a.recv().await? {
//!             to_b.send(data).await?;
//!         }
//!         to_b.shutdown().await
//!     };
//!     let back = async {
//!         while let Some(data) = from_b.recv().await? {
//!             to_a.send(data).await?;
//!         }
//!         to_a.shutdown().await
//!     };
//!     let (there, back) = join(there, back).await;
//!     there.and(back)
//! }
//! ```
//!
//! A future kept across rounds is pinned and lent to each `select`, so that it is not begun anew;
//! `futures-util`'s macros (`select_biased!`, without its default features) do the same for more
//! branches:
//!
//! ```
//! use core::pin::pin;
//! use core::time::Duration;
//! use embassy_futures::select::{Either, select};
//! use kio::Core;
//! use kio::net::TcpStream;
//!
//! /// Sends a dot a second until the peer says something.
//! async fn wait(core: Core, mut conn: TcpStream) -> kio::Result<()> {
//!     let (mut from, mut to) = conn.split();
//!     let mut said = pin!(from.recv());
//!     let mut seconds = core.interval(Duration::from_secs(1));
//!     loop {
//!         match select(&mut said, seconds.tick()).await {
//!             Either::First(_said) => return Ok(()),
//!             Either::Second(_) => to.send(".").await?, // not within the select: it is not given up
//!         }
//!     }
//! }
//! ```
//!
//! # Giving up
//!
//! Every future of kio may be dropped at any point (`timeout`, `deadline`, a `select`), or forgotten,
//! without undefined behaviour. What that means for the data:
//!
//! | operation | dropped before it is ready |
//! | --- | --- |
//! | `recv`, `recv_idle`, `recv_into`, `recv_idle_into` | nothing is lost: bytes belong to the connection, the next call has them |
//! | `accept` | nothing is lost: a connection taken meanwhile waits for the next call |
//! | `push`, `send` | an item that is not in the outbox yet is dropped and nothing of it is sent; one that is goes out whole |
//! | `push_copy`, `send_copy` | what was copied so far goes out; how much that is you are not told |
//! | `flush` | what was pushed goes on being sent |
//! | a send past `set_send_timeout` | it is cut off: part of it may be out, so later sends fail with `WriteCut` |
//! | `shutdown` | not begun, or done all the same |
//! | `finish` | as dropping the stream |
//! | `close`, and dropping a stream | the connection closes without waiting; what was not sent is dropped. A send half that is dropped while the other is there sends what was pushed first |
//! | `connect` | the attempt is cancelled, its slot is free again |
//! | `reserve`, `buf` | nothing is lost: the place in line is given up |
//! | `worker.on` | not posted yet, while it waits for room: nothing has happened. Else the future over there is dropped at its next turn, or its value is; what it had done is done |
//! | `resolve` | the answer is dropped when it comes |
//! | `sleep`, `interval.tick`, `stopping`, `signal.recv` | nothing is lost; a tick is still to come |
//! | a `JoinHandle`, awaited by `&mut` | may be awaited again. Dropping the handle detaches the task; `abort` drops its future |
//! | `timeout`, `deadline`, a `select` | what they hold is dropped |
//! | [`Channel`]: `send` | nothing was sent; the value is dropped with it, and its place in line is the next one's |
//! | [`Channel`]: `recv` | nothing is lost: a value leaves the channel only to be returned |
//! | [`Baton::wait`], [`Event::wait`] | nothing is lost: what is set stays set |
//! | `embassy_sync`'s | as that crate says: nothing is lost in `Channel`, `Signal`, `Mutex` and `Semaphore` |
//!
//! Forgotten (`mem::forget`, a leaked box) after it was polled, a future keeps what it holds: an
//! operation its slot, a call to another worker its slot there, a send into a channel maybe one of the `N` places, the wait for a baton the
//! baton's one place; the wait for an event keeps nothing.

mod baton;
mod channel;
mod errors;
mod event;
mod transfer;

pub use baton::{Baton, BatonWait};
pub use channel::{Channel, Receiver, Sender};
pub use errors::{SendError, TryRecvError, TrySendError};
pub use event::{Event, EventWait};

#[cfg(feature = "embassy-sync")]
pub use crate::task::WorkerRawMutex;
