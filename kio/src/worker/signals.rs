//! Signals that were declared reach tasks as a stream.

use core::pin::pin;
use core::sync::atomic::Ordering;

use super::Core;
use crate::error::{Error, Result};
use crate::task::WaitNode;

/// A signal, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal(pub i32);

impl Signal {
    /// SIGHUP: by custom, read the configuration again.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// SIGUSR1.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// SIGUSR2.
    pub const USR2: Self = Self(libc::SIGUSR2);
}

/// One declared signal, as a stream; see `Core::signal`.
pub struct Signals {
    core: Core,
    signal: Signal,
    seen: u32,
}

impl Signals {
    pub(crate) fn new(core: Core, signal: Signal) -> Result<Self> {
        let parts = core.parts()?;
        if !parts.config().signals.contains(&signal.0) {
            return Err(Error::Other("the signal is not declared: add it to `signals`"));
        }
        let seen = parts.shared().signals[signal.0 as usize].load(Ordering::Acquire);
        Ok(Self { core, signal, seen })
    }

    /// Waits for the signal. Several that came at once are one, as signals are.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn recv(&mut self) -> Result<Signal> {
        let mut node = pin!(WaitNode::new());
        core::future::poll_fn(|cx| {
            let parts = self.core.parts()?;
            let now = parts.shared().signals[self.signal.0 as usize].load(Ordering::Acquire);
            if now != self.seen {
                self.seen = now;
                return core::task::Poll::Ready(Ok(self.signal));
            }
            if parts.stopping.get() || parts.tasks.closed.get() {
                return core::task::Poll::Ready(Err(Error::Stopped));
            }
            node.as_mut().as_ref().wait(&parts.signal_waiters, &parts.tasks, cx);
            core::task::Poll::Pending
        })
        .await
    }
}
