//! Signals, while pools run in the foreground: a handler notes which came, for each pool that
//! watches, and rings its eventfd.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsRawFd, OwnedFd};

use crate::error::{Error, Result};
use crate::ring::sys;

/// One pool that watches; static, since a handler may be in the middle of it.
struct Place {
    taken: AtomicBool,
    /// Which signals came, a bit each.
    came: AtomicU64,
    bell: OnceLock<OwnedFd>,
}

/// Pools that may run in the foreground at once.
const PLACES: usize = 8;
static WATCHING: [Place; PLACES] = [const {
    Place { taken: AtomicBool::new(false), came: AtomicU64::new(0), bell: OnceLock::new() }
}; PLACES];

/// How many watch each signal, and what was there before the first.
static HANDLERS: Mutex<[(u32, Option<libc::sigaction>); 65]> =
    Mutex::new([const { (0, None) }; 65]);

extern "C" fn note(signal: i32) {
    for place in &WATCHING {
        if place.taken.load(Ordering::SeqCst) {
            place.came.fetch_or(1 << (signal as u64 & 63), Ordering::SeqCst);
            place.ring();
        }
    }
}

/// Ends the wait of every pool that watches: each looks whether it was meant.
pub(super) fn ring_all() {
    for place in WATCHING.iter().filter(|place| place.taken.load(Ordering::SeqCst)) {
        place.ring();
    }
}

impl Place {
    /// Async-signal-safe.
    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            sys::ring_eventfd(bell.as_raw_fd());
        }
    }
}

/// The handlers of the signals given, for as long as this lives.
pub(super) struct Watch {
    place: &'static Place,
    signals: u64,
}

impl Watch {
    /// Sets the handlers.
    pub(super) fn new(signals: impl Iterator<Item = i32>) -> Result<Self> {
        let free = WATCHING.iter().find(|place| !place.taken.swap(true, Ordering::SeqCst));
        let place = free.ok_or(Error::Other("8 pools at most run in the foreground at once"))?;
        let mut watch = Self { place, signals: 0 };
        if place.bell.get().is_none() {
            let _ = place.bell.set(eventfd(0, EventfdFlags::CLOEXEC)?);
        }
        place.came.store(0, Ordering::SeqCst);
        for signal in signals {
            watch.add(signal)?;
        }
        Ok(watch)
    }

    fn add(&mut self, signal: i32) -> Result<()> {
        let bit = 1 << (signal as u64 & 63);
        if self.signals & bit == 0 {
            let mut handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
            let (watchers, before) = &mut handlers[signal as usize];
            if *watchers == 0 {
                let old = sys::set_handler(signal, note);
                *before =
                    Some(old.map_err(|errno| Error::os("setting a signal's handler", errno))?);
            }
            *watchers += 1;
            self.signals |= bit;
        }
        Ok(())
    }

    /// Waits for a signal, or until somebody rings; gives the watched signals that came.
    pub(super) fn wait(&self) -> impl Iterator<Item = i32> + use<> {
        if let Some(bell) = self.place.bell.get() {
            // EINTR is a signal too.
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
        let came = self.place.came.swap(0, Ordering::SeqCst) & self.signals;
        (1..64).filter(move |signal| came & 1 << signal != 0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
        for signal in (1..64).filter(|signal| self.signals & 1 << signal != 0) {
            let (watchers, before) = &mut handlers[signal as usize];
            *watchers -= 1;
            if *watchers == 0
                && let Some(before) = before.take()
            {
                sys::restore_handler(signal, &before);
            }
        }
        self.place.taken.store(false, Ordering::SeqCst);
    }
}
