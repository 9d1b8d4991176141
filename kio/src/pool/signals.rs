//! Signals, while a pool runs in the foreground: a handler notes which came and rings an eventfd.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsRawFd, OwnedFd};

use crate::error::{Error, Result};
use crate::ring::sys;

/// Which signals came, a bit each.
static CAME: AtomicU64 = AtomicU64::new(0);
/// What the handler rings; never closed, since a handler may be in the middle.
static BELL: OnceLock<OwnedFd> = OnceLock::new();

extern "C" fn note(signal: i32) {
    CAME.fetch_or(1 << (signal as u64 & 63), Ordering::SeqCst);
    ring();
}

/// Ends a wait; async-signal-safe.
pub(super) fn ring() {
    if let Some(bell) = BELL.get() {
        sys::ring_eventfd(bell.as_raw_fd());
    }
}

/// The handlers of the signals given, for as long as this lives; then what was there before.
pub(super) struct Watch {
    before: heapless::Vec<(i32, libc::sigaction), 16>,
}

impl Watch {
    /// Sets the handlers.
    pub(super) fn new(signals: impl Iterator<Item = i32>) -> Result<Self> {
        if BELL.get().is_none() {
            let _ = BELL.set(eventfd(0, EventfdFlags::CLOEXEC)?);
        }
        CAME.store(0, Ordering::SeqCst);
        let mut watch = Self { before: heapless::Vec::new() };
        for signal in signals {
            let before = sys::set_handler(signal, note)
                .map_err(|errno| Error::os("setting a signal's handler", errno))?;
            let kept = watch.before.push((signal, before));
            kept.map_err(|_| Error::Other("`signals` names more than 14 signals"))?;
        }
        Ok(watch)
    }

    /// Waits for a signal, or until somebody rings; gives the signals that came.
    pub(super) fn wait(&self) -> impl Iterator<Item = i32> + use<> {
        if let Some(bell) = BELL.get() {
            // EINTR is a signal too.
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
        let came = CAME.swap(0, Ordering::SeqCst);
        (1..64).filter(move |signal| came & 1 << signal != 0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for (signal, before) in &self.before {
            sys::restore_handler(*signal, before);
        }
    }
}
