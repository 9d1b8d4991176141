//! The writer as a plain thread, and what only `std` has: the panic hook, waiting, the rest.

use core::sync::atomic::Ordering;
use core::task::Waker;
use core::time::Duration;
use std::io::Write;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;
use std::vec::Vec;

use super::ring::RECORD_MAX;
use super::{LevelFilter, Logger, Who};
use crate::error::{Error, Result};

/// Bytes that the thread writes at once.
const BATCH: usize = 64 * 1024;
/// The thread's name.
const THREAD: &str = "kio-log";
/// How long a panic waits until what was logged before is written.
const PANIC_WAIT: Duration = Duration::from_millis(100);
/// How often one who waits looks.
const LOOK: Duration = Duration::from_micros(200);

/// The thread that writes. Dropped, it writes what is left, and ends: keep it until the pool has
/// ended.
#[must_use = "dropped, it ends the writing"]
pub struct Writer<const SLOTS: usize = 1024> {
    logger: &'static Logger<SLOTS>,
    thread: Option<JoinHandle<()>>,
}

struct Unpark(Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<const SLOTS: usize> Logger<SLOTS> {
    /// Makes it the facade's logger, for levels up to `max`, sets the panic hook, and starts a thread
    /// that writes to `to`.
    ///
    /// `to` may block: that holds up the thread alone. Errors: as [`Logger::install`]; no thread can be
    /// made; there is a writer already.
    pub fn start(
        &'static self,
        max: LevelFilter,
        to: impl Write + Send + 'static,
    ) -> Result<Writer<SLOTS>> {
        let writer = self.write_to(to)?;
        self.install(max)?;
        Ok(writer)
    }

    /// Starts a thread that writes to `to`, and nothing else: for a logger that something else hands
    /// its records.
    ///
    /// Errors: no thread can be made; there is a writer already.
    pub fn write_to(&'static self, to: impl Write + Send + 'static) -> Result<Writer<SLOTS>> {
        self.claim(Who::Thread)?;
        self.ending.store(false, Ordering::Release);
        let name = thread::Builder::new().name(THREAD.into());
        match name.spawn(move || self.write(to)) {
            Ok(thread) => Ok(Writer { logger: self, thread: Some(thread) }),
            Err(error) => {
                self.writer.store(Who::Nobody as u8, Ordering::Release);
                Err(Error::os("making the log's thread", error.raw_os_error().unwrap_or(0)))
            }
        }
    }

    /// The thread.
    fn write(&'static self, mut to: impl Write) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            // Looked at first: what was logged before the end was asked for is written.
            let ending = self.ending.load(Ordering::Acquire);
            let taken = self.take_into(|line| {
                let fits = batch.len() + RECORD_MAX <= BATCH;
                batch.extend_from_slice(if fits { line } else { &[] });
                fits
            });
            if batch.is_empty() {
                if ending {
                    return;
                }
                self.park(&waker);
                continue;
            }
            let upto = self.records.head();
            if to.write_all(&batch).and_then(|()| to.flush()).is_err() {
                self.lost.fetch_add(taken, Ordering::Relaxed);
            }
            batch.clear();
            self.is_written(upto);
        }
    }

    /// Sleeps until somebody logs.
    fn park(&self, waker: &Waker) {
        self.waker.register(waker);
        self.bell.say_sleeping();
        if !self.records.has_any() && !self.ending.load(Ordering::Acquire) {
            thread::park();
        }
        self.bell.say_awake();
    }

    /// Waits until all is written that was logged before, at most for a while; tells whether it is.
    /// Blocks the thread: not for workers. Without a writer it waits in vain.
    pub fn wait_written(&self, within: Duration) -> bool {
        let (upto, began) = (self.records.tail(), Instant::now());
        while self.written.load(Ordering::Acquire) < upto {
            if began.elapsed() >= within {
                return false;
            }
            self.ring_bell();
            thread::sleep(LOOK);
        }
        true
    }

    /// Writes what no writer has written: at the end of a program whose writer was a task. Does nothing
    /// while another thread takes records.
    ///
    /// Errors: those of `to`; what was taken then is lost, and counted.
    pub fn write_rest(&self, to: &mut dyn Write) -> std::io::Result<()> {
        let mut batch = Vec::new();
        let taken = self.take_into(|line| {
            batch.extend_from_slice(line);
            true
        });
        let upto = self.records.head();
        to.write_all(&batch).and_then(|()| to.flush()).inspect_err(|_| {
            self.lost.fetch_add(taken, Ordering::Relaxed);
        })?;
        self.is_written(upto);
        Ok(())
    }

    pub(super) fn set_hook(&'static self) {
        let before = std::panic::take_hook();
        std::panic::set_hook(std::boxed::Box::new(move |panic| {
            before(panic);
            if self.writer.load(Ordering::Acquire) != Who::Thread as u8 {
                let _ = self.write_rest(&mut std::io::stderr());
            } else if thread::current().name() != Some(THREAD) {
                self.wait_written(PANIC_WAIT);
            }
        }));
    }
}

impl<const SLOTS: usize> Drop for Writer<SLOTS> {
    fn drop(&mut self) {
        let logger = self.logger;
        logger.ending.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        logger.writer.store(Who::Nobody as u8, Ordering::Release);
    }
}

impl<const SLOTS: usize> core::fmt::Debug for Writer<SLOTS> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Writer({:?})", self.logger)
    }
}
