//! A connection whose records the kernel seals and opens: what TLS streams stand on.
//!
//! Plain bytes and data records go the way of every stream. This adds the keys, reads that take no byte
//! too many while the handshake runs, and the records that are no data. Nothing here knows what a
//! record says.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::TcpStream;
use super::recv::wait_at_most;
use super::send::Send;
use super::tcp::Socket;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
pub(crate) use crate::op::{Arrived, Record};
use crate::ring::ktls::{Keys, Refused};

/// The records of a connection. It owns nothing: the stream, or its halves, keep the connection; once
/// they are gone it must not be used, or it speaks of the slot's next owner.
#[derive(Clone, Copy)]
pub(crate) struct Records {
    socket: Socket,
}

#[cfg(test)]
mod tests;

impl TcpStream {
    /// The connection's records.
    pub(crate) fn records(&self) -> Records {
        Records { socket: self.socket }
    }
}

impl Records {
    // ---- set-up ----

    /// Puts TLS of the kernel under the connection. Plain bytes pass until keys are set.
    pub(crate) fn use_tls(self) -> core::result::Result<(), Refused> {
        self.parts_or_refused()?.io.use_tls(self.socket.at)
    }

    /// Gives what is sent its keys; all that was pushed must be out. A second time they replace the
    /// first, where the kernel can (6.14).
    pub(crate) fn set_send_keys(self, keys: &Keys<'_>) -> core::result::Result<(), Refused> {
        self.parts_or_refused()?.io.set_send_keys(self.socket.at, keys)
    }

    /// Gives what is received its keys: what waits in the socket is opened with them too. The first
    /// time no sealed byte may have been received; then, after a key update was taken and before the
    /// next wait.
    pub(crate) fn set_recv_keys(self, keys: &Keys<'_>) -> core::result::Result<(), Refused> {
        self.parts_or_refused()?.io.set_recv_keys(self.socket.at, keys)
    }

    /// Whether bytes were received that nobody took, or may be at any time: then the kernel can't be
    /// given the keys of what is received.
    pub(crate) fn read_ahead(self) -> bool {
        self.socket.core.parts().is_ok_and(|parts| parts.io.has_read_ahead(self.socket.at))
    }

    /// Number of the next record to send, as the kernel counts. One system call.
    pub(crate) fn send_sequence(self) -> Result<u64> {
        self.socket.core.parts()?.io.send_sequence(self.socket.at)
    }

    /// Records sent under the present keys: never fewer than there were.
    pub(crate) fn sealed(self) -> u64 {
        self.socket.core.parts().map_or(0, |parts| parts.io.sealed(self.socket.at))
    }

    fn parts_or_refused(self) -> core::result::Result<&'static crate::worker::Parts, Refused> {
        self.socket.core.parts().map_err(|_| Refused::Stopped)
    }

    // ---- receiving ----

    /// Waits for bytes and copies them; at most `into.len()` leave the socket, so what comes behind
    /// them stays for the kernel to open. Returns how many; 0 at the end of the stream.
    ///
    /// Cancel safety: bytes belong to the connection; one that is given up may still take as many as
    /// it asked for off the socket, for the next. Errors: as `TcpStream::recv`.
    pub(crate) fn read_at_most(self, into: &mut [u8]) -> ReadAtMost<'_> {
        ReadAtMost { socket: self.socket, into, timed: false }
    }

    /// Waits until something has arrived. `idle` as in `TcpStream::recv_idle`.
    ///
    /// Cancel safety: nothing is lost. Errors: the kernel's on records (EBADMSG: not sealed with these
    /// keys; EINVAL: no record; EMSGSIZE: too long; EKEYEXPIRED: keys are to be set first), and those
    /// of `TcpStream::recv`.
    pub(crate) fn wait(self, idle: bool) -> Wait {
        Wait { socket: self.socket, idle, timed: false }
    }

    /// The next received bytes, if any are there.
    #[inline]
    pub(crate) fn take_data(self) -> Option<Buf> {
        self.socket.core.parts().ok()?.io.receive(self.socket.at)
    }

    /// Copies received bytes behind what is in `into`; how many.
    pub(crate) fn read_data(self, into: &mut BufMut) -> usize {
        self.socket.core.parts().map_or(0, |parts| parts.io.receive_into(self.socket.at, into))
    }

    /// Lets `copy` take received bytes, which tells how many it took; how many in all.
    #[cfg(any(test, feature = "embedded-io-async"))]
    pub(crate) fn copy_data(self, copy: impl FnMut(&[u8]) -> usize) -> usize {
        self.socket.core.parts().map_or(0, |parts| parts.io.receive_with(self.socket.at, copy))
    }

    /// The control record, or the part of one, that has arrived. Nothing is received until it is
    /// taken.
    pub(crate) fn take_record(self) -> Option<Record> {
        self.socket.core.parts().ok()?.io.take_record(self.socket.at)
    }

    // ---- sending ----

    /// Queues a control record of 1 to 16 bytes. It goes out before data that is not in flight, in
    /// the background, and `then` are the keys of what follows it. False where one is queued already.
    ///
    /// Errors: those of sends. Where `then` is refused, later sends fail (EBUSY: no re-keying).
    pub(crate) fn queue_record(
        self,
        kind: u8,
        bytes: &[u8],
        then: Option<&Keys<'_>>,
    ) -> Result<bool> {
        self.socket.core.parts()?.io.queue_record(self.socket.at, kind, bytes, then)
    }

    /// Whether a control record is queued or in flight, close_notify included.
    pub(crate) fn is_sending_record(self) -> bool {
        self.socket.core.parts().is_ok_and(|parts| parts.io.is_sending_record(self.socket.at))
    }

    /// Queues a control record once there is room for one, and waits until it is out and its keys are
    /// set. For the sending side.
    ///
    /// Cancel safety: queued, it goes out all the same. Errors: those of sends, `TimedOut` past the
    /// send timeout, which cuts sends off.
    #[cfg(test)]
    pub(crate) async fn send_record(
        self,
        kind: u8,
        bytes: &[u8],
        then: Option<&Keys<'_>>,
    ) -> Result<()> {
        while !self.queue_record(kind, bytes, then)? {
            self.records_sent().await?;
        }
        self.records_sent().await
    }

    /// Waits until no control record is to be sent.
    #[cfg(test)]
    async fn records_sent(self) -> Result<()> {
        self.within_send_timeout(|parts, cx| parts.io.poll_records_sent(self.socket.at, cx)).await
    }

    /// Ends the sending side in the background: what was pushed goes out, then close_notify where
    /// there are keys, then the end of the stream. Nothing can be pushed from here on.
    pub(crate) fn end(self) -> Result<()> {
        self.socket.core.parts()?.io.end_records(self.socket.at)
    }

    /// Flushes, ends the sending side, and waits until the system has all of it.
    ///
    /// Cancel safety: begun, it ends all the same. Errors: as `send_record`.
    pub(crate) async fn shutdown(self) -> Result<()> {
        let flushed = Send::new(self.socket, None, true).await;
        match flushed.and_then(|()| self.end()) {
            Ok(()) | Err(Error::WriteClosed) => {}
            Err(error) => return Err(error),
        }
        self.within_send_timeout(|parts, cx| parts.io.poll_ended(self.socket.at, cx)).await
    }

    /// Polls until it is ready, at most as long as a send may wait; then sends are cut off.
    async fn within_send_timeout(
        self,
        poll: impl Fn(&'static crate::worker::Parts, &Context<'_>) -> Poll<Result<()>>,
    ) -> Result<()> {
        let mut timed = false;
        poll_fn(|cx| {
            let parts = self.socket.core.parts()?;
            let polled = poll(parts, cx);
            if polled.is_ready() {
                return polled;
            }
            let limit = parts.io.socket(self.socket.at).send_limit();
            let late = wait_at_most(parts, limit, &mut timed, cx);
            if late.is_ready() {
                parts.io.cut(self.socket.at);
            }
            late
        })
        .await
    }
}

/// Waits for so many bytes or fewer; see [`Records::read_at_most`].
#[must_use = "it does nothing until awaited"]
pub(crate) struct ReadAtMost<'a> {
    socket: Socket,
    into: &'a mut [u8],
    timed: bool,
}

impl Future for ReadAtMost<'_> {
    type Output = Result<usize>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let parts = this.socket.core.parts()?;
        let (io, at) = (&parts.io, this.socket.at);
        let mut n = 0;
        io.receive_with(at, |bytes| {
            let some = bytes.len().min(this.into.len() - n);
            this.into[n..n + some].copy_from_slice(&bytes[..some]);
            n += some;
            some
        });
        if n > 0 || this.into.is_empty() {
            return Poll::Ready(Ok(n));
        }
        let socket = io.socket(at);
        let most = u32::try_from(this.into.len()).unwrap_or(u32::MAX);
        let waited = io.wait_exact(at, socket, most, cx);
        if waited.is_ready() {
            return waited.map_ok(|()| 0);
        }
        wait_at_most(parts, socket.recv_limit(), &mut this.timed, cx)
    }
}

/// Waits until data, a record or the end has arrived; see [`Records::wait`].
#[must_use = "it does nothing until awaited"]
pub(crate) struct Wait {
    socket: Socket,
    /// Ends when the pool stops.
    idle: bool,
    timed: bool,
}

impl Future for Wait {
    type Output = Result<Arrived>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let parts = this.socket.core.parts()?;
        let (io, at) = (&parts.io, this.socket.at);
        let ends = this.idle && parts.stopping.get();
        if ends && io.is_quiet(at) {
            return Poll::Ready(Ok(Arrived::End));
        }
        let socket = io.socket(at);
        let waited = io.wait_arrived(at, socket, cx);
        if waited.is_ready() {
            return waited;
        }
        if ends && !io.waits_for_buffer(at) {
            // A request may lie in the socket already: the next turn tells.
            cx.waker().wake_by_ref();
        }
        wait_at_most(parts, socket.recv_limit(), &mut this.timed, cx)
    }
}
