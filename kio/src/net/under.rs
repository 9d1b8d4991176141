//! What a protocol above TCP does with a socket: the stream's own operations, by the handle that
//! both halves share.

use alloc::vec::Vec;
use core::time::Duration;

use super::recv::Recv;
use super::send::Send;
use super::tcp::Socket;
use crate::buf::Buf;
use crate::error::Result;
use crate::op::Out;
use crate::worker::Parts;

/// How often and when a send is looked at that nobody may wait for: the next turn of the worker most
/// often sends it.
const LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_millis(1);

impl Socket {
    /// Received bytes; with `idle`, none once the pool stops and nothing has arrived.
    pub(crate) fn recv<'a>(self, idle: bool) -> Recv<'a> {
        Recv::new(self, idle)
    }

    /// Received bytes, if some are here already.
    pub(crate) fn try_recv(self) -> Option<Buf> {
        self.core.parts().ok()?.io.receive(self.at)
    }

    /// Adds to the outbox; waits, sending, while that is full.
    pub(crate) fn push<'a>(self, out: Out) -> Send<'a> {
        Send::new(self, Some(out), false)
    }

    /// Sends what was pushed, until the system has it.
    pub(crate) fn flush<'a>(self) -> Send<'a> {
        Send::new(self, None, true)
    }

    /// Begins to send what was pushed.
    pub(crate) fn start_flush(self) {
        if let Ok(parts) = self.core.parts() {
            parts.io.start_flush(self.at);
        }
    }

    /// Tells that this poll computes for as long as hundreds of others: after a few such the worker
    /// looks at the ring, so that what they send does not wait for all that is ready.
    pub(crate) fn computes_long(self) {
        if let Ok(parts) = self.core.parts() {
            parts.tasks.heavy.set(parts.tasks.heavy.get().saturating_add(1));
        }
    }

    /// Room on the heap to put a record together, which the worker keeps one of.
    pub(crate) fn take_spare(self) -> Vec<u8> {
        self.core.parts().map(Parts::take_spare).unwrap_or_default()
    }

    /// Gives such room to the next that wants it.
    pub(crate) fn keep_spare(self, spare: Vec<u8>) {
        if let Ok(parts) = self.core.parts() {
            parts.keep_spare(spare);
        }
    }

    /// Whether somebody waits for a buffer: what is held back should go out.
    pub(crate) fn is_short(self) -> bool {
        self.core.parts().is_ok_and(|parts| parts.io.bufs.has_waiters())
    }

    /// Bytes of each of the worker's buffers.
    pub(crate) fn buffer_size(self) -> usize {
        self.core.parts().map_or(0, |parts| parts.io.bufs.size() as usize)
    }

    /// Whether the write half still takes bytes.
    pub(crate) fn writable(self) -> Result<()> {
        self.core.parts()?.io.socket(self.at).writable()
    }

    /// Whether the peer has ended its side, and everything it sent was taken.
    pub(crate) fn at_end(self) -> bool {
        self.core.parts().is_ok_and(|parts| parts.io.at_end(self.at))
    }

    /// Sends what was pushed as far as the system takes it within some milliseconds, in looks of one.
    /// Unlike `flush` it disturbs nobody who waits for sends, of whom the socket knows but one.
    pub(crate) async fn flush_some(self) {
        for _ in 0..LOOKS {
            let Ok(parts) = self.core.parts() else { return };
            parts.io.start_flush(self.at);
            let socket = parts.io.socket(self.at);
            if parts.io.flushed(self.at, socket).is_some() && !parts.io.is_sending_record(self.at) {
                return;
            }
            self.core.sleep(LOOK).await;
        }
    }
}
