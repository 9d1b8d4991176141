//! A writer behind the [`log`] facade that holds up no worker and allocates nothing.
//!
//! Who logs puts the line together on his own stack and copies it into a static ring, which any thread
//! does at any time without a lock or a system call; but for one that wakes the writer, where it
//! sleeps. The writer is a plain thread ([`Logger::start`]) or a task that appends to a file
//! ([`Logger::append_to`]). What finds no room, since the writer is slow or stuck, is dropped and
//! counted, and the next line that is written tells how many there were.
//!
//! ```no_run
//! use kio::logger::{LevelFilter, Logger};
//!
//! static LOG: Logger = Logger::new();
//!
//! # async fn echo(_: kio::net::TcpStream) -> kio::Result<()> { Ok(()) }
//! # kio::pool! { struct Echo; listen = { "127.0.0.1:7000" => echo }, }
//! fn main() -> kio::Result<()> {
//!     let _writer = LOG.start(LevelFilter::Info, std::io::stderr())?;
//!     Echo::run() // then `_writer` goes: what is left is written
//! }
//! ```
//!
//! A line is at most 1,008 bytes long, the rest is cut, and the line says so. Control characters in a
//! record are escaped; a line feed in it stays and is followed by a tab. The declaration's footprint
//! does not count the ring: it is a static of yours, of 128 bytes a slot.
//!
//! **Panics.** The panic hook that is set waits, for 100 ms at most, until what was logged before is
//! written, since the process may be about to end; it does so after the hook that was there, which
//! writes to standard error by itself. Where the writer is a task, which may be of the very worker
//! that panics, it writes what is left to standard error instead.

mod line;
mod ring;
#[cfg(feature = "std")]
mod thread;

use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use core::task::Poll;

use atomic_waker::AtomicWaker;
pub use log::LevelFilter;

use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::fs::File;
use crate::ring::sys;
use crate::task::remote::Bell;
use line::Line;
use ring::Records;
#[cfg(feature = "std")]
pub use thread::Writer;

/// The ring and what waits for its news; a static. See the [module](self).
///
/// A record takes a slot for each 112 bytes of its line. `SLOTS` is a power of two, 16 or more: 1024
/// slots, the default, are 128 KiB.
pub struct Logger<const SLOTS: usize = 1024> {
    records: Records<SLOTS>,
    /// Whether the writer sleeps, and what wakes it.
    bell: Bell,
    waker: AtomicWaker,
    /// [`Who`] writes.
    writer: AtomicU8,
    /// The writer's thread is to end once nothing is left.
    ending: AtomicBool,
    /// Up to where all is written.
    written: AtomicU64,
    /// Records that were taken and could not be written.
    lost: AtomicU64,
    /// Of those dropped, how many the lines have told of.
    told: AtomicU64,
}

/// Who writes what is logged.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Who {
    Nobody = 0,
    Task,
    Thread,
}

impl<const SLOTS: usize> Logger<SLOTS> {
    /// An empty one.
    #[allow(clippy::new_without_default, reason = "only statics are made of it")]
    pub const fn new() -> Self {
        Self {
            records: Records::new(),
            bell: Bell::new(),
            waker: AtomicWaker::new(),
            writer: AtomicU8::new(Who::Nobody as u8),
            ending: AtomicBool::new(false),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// Makes it the facade's logger, for levels up to `max`, and sets the panic hook. [`Logger::start`]
    /// does so by itself.
    ///
    /// Error: the facade has another logger.
    pub fn install(&'static self, max: LevelFilter) -> Result<()> {
        log::set_logger(self).map_err(|_| {
            Error::Other("the `log` facade has a logger already, and takes one in a program's life")
        })?;
        log::set_max_level(max);
        #[cfg(feature = "std")]
        self.set_hook();
        Ok(())
    }

    /// Appends what is logged to a file, until it is dropped, as when the pool stops and nothing is
    /// left to serve. For a task; what is logged after that waits for [`Logger::write_rest`].
    ///
    /// Each append is as many lines as fit a buffer, of which it holds one while it writes. Errors: what
    /// appending failed with, by which the lines of one buffer are lost (and counted); there is a writer
    /// already. Cancel safety: the append under way goes on, so all lines taken are written.
    pub async fn append_to(&'static self, file: &File) -> Result<()> {
        struct Leave<'a>(&'a AtomicU8);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.store(Who::Nobody as u8, Ordering::Release);
            }
        }
        self.claim(Who::Task)?;
        let _leave = Leave(&self.writer);
        loop {
            self.news().await;
            let mut buf = file.core().buf().await?;
            let taken = self.take_into(|line| buf.put(line).is_ok());
            if !buf.is_empty() {
                self.append(file, buf, taken).await?;
            }
        }
    }

    async fn append(&'static self, file: &File, lines: BufMut, taken: u64) -> Result<()> {
        let upto = self.records.head();
        if let Err(error) = file.append(lines).await {
            self.lost.fetch_add(taken, Ordering::Relaxed);
            return Err(error);
        }
        self.is_written(upto);
        Ok(())
    }

    /// All up to there is written. One who took later ones may have said so already.
    fn is_written(&self, upto: u64) {
        self.written.fetch_max(upto, Ordering::AcqRel);
    }

    /// Waits for a record.
    async fn news(&'static self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            self.bell.say_sleeping();
            match self.records.has_any() {
                true => {
                    self.bell.say_awake();
                    Poll::Ready(())
                }
                false => Poll::Pending,
            }
        })
        .await
    }

    /// How many records were dropped, since there was no room for them or writing failed.
    pub fn dropped(&self) -> u64 {
        self.records.refused() + self.lost.load(Ordering::Relaxed)
    }

    fn claim(&self, who: Who) -> Result<()> {
        let (nobody, order) = (Who::Nobody as u8, Ordering::AcqRel);
        let claimed = self.writer.compare_exchange(nobody, who as u8, order, Ordering::Relaxed);
        claimed.map(drop).map_err(|_| Error::Other("the logger has a writer already"))
    }

    /// Gives lines to `put` until there is none or it has no room, first of what was dropped. Returns
    /// how many records it took.
    fn take_into(&self, mut put: impl FnMut(&[u8]) -> bool) -> u64 {
        let (told, dropped) = (self.told.load(Ordering::Relaxed), self.dropped());
        if dropped > told {
            let args = format_args!("{} records did not fit and are missing here", dropped - told);
            let mut record = log::Record::builder();
            let record = record.target("kio::logger").level(log::Level::Warn);
            let line = Line::of(&record.args(args).build(), sys::realtime_micros());
            if put(line.bytes()) {
                self.told.store(dropped, Ordering::Relaxed);
            }
        }
        let mut taken = 0;
        self.records.take(|line| {
            let fits = put(line);
            taken += u64::from(fits);
            fits
        });
        taken
    }

    /// There is something to write.
    fn ring_bell(&self) {
        if self.bell.must_ring() {
            self.waker.wake();
        }
    }
}

impl<const SLOTS: usize> log::Log for Logger<SLOTS> {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true // the facade's maximum is all there is
    }

    fn log(&self, record: &log::Record<'_>) {
        // User code runs here, in the arguments: before anything of the ring is held.
        let line = Line::of(record, sys::realtime_micros());
        self.records.push(line.bytes());
        self.ring_bell();
    }

    /// Waits, for a second at most, until what was logged is written: not for workers.
    fn flush(&self) {
        #[cfg(feature = "std")]
        self.wait_written(core::time::Duration::from_secs(1));
    }
}

impl<const SLOTS: usize> core::fmt::Debug for Logger<SLOTS> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Logger({SLOTS} slots, {} records dropped)", self.dropped())
    }
}
