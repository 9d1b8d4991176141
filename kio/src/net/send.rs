//! The futures that send.

use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::recv::wait_at_most;
use super::tcp::Socket;
use crate::error::{Error, Result};
use crate::op::Out;
use crate::worker::Parts;

/// Pushes, flushes, or both; see `TcpStream::send`.
///
/// Cancel safety: dropped before its item was pushed, it sent nothing of it; afterwards the item goes
/// out whole all the same.
#[must_use = "it does nothing until awaited"]
pub struct Send<'a> {
    socket: Socket,
    out: Option<Out>,
    flush: bool,
    timed: bool,
    _stream: PhantomData<&'a mut ()>,
}

impl Send<'_> {
    #[inline]
    pub(super) fn new(socket: Socket, out: Option<Out>, flush: bool) -> Self {
        Self { socket, out, flush, timed: false, _stream: PhantomData }
    }

    /// Pushes what is not pushed yet, then sends and waits. Apart from `poll`, so that the look
    /// whether all is out is inlined where it is awaited.
    #[inline(never)]
    fn go_on(&mut self, parts: &'static Parts, cx: &Context<'_>) -> Poll<Result<()>> {
        let (io, at) = (&parts.io, self.socket.at);
        let socket = io.socket(at);
        if let Some(out) = self.out.take() {
            socket.writable()?;
            match io.push_out(at, socket, out) {
                Err(out) => self.out = Some(out),
                Ok(()) if !self.flush => {
                    io.flush_if_short(at);
                    return Poll::Ready(Ok(()));
                }
                // There was nothing in it.
                Ok(()) if let Some(sent) = io.flushed(at, socket) => return Poll::Ready(sent),
                Ok(()) => {}
            }
        }
        io.flush(at, socket, cx);
        let late = wait_at_most(parts, socket.send_limit(), &mut self.timed, cx);
        if late.is_ready() {
            // Part of what is in flight may be out already: nothing may follow it.
            io.cut(at);
        }
        late
    }
}

impl Future for Send<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let parts = this.socket.core.parts()?;
        let at = this.socket.at;
        if this.out.is_none()
            && let Some(sent) = parts.io.flushed(at, parts.io.socket(at))
        {
            return Poll::Ready(sent);
        }
        this.go_on(parts, cx)
    }
}

impl Socket {
    /// Copies bytes into pool buffers of the outbox, behind what was copied before where there is
    /// room.
    pub(crate) async fn push_copy(self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let io = &self.core.parts()?.io;
            io.socket(self.at).writable()?;
            bytes = &bytes[io.join_out(self.at, bytes)..];
            if bytes.is_empty() {
                return Ok(());
            }
            let mut buf = match self.core.try_buf() {
                Some(buf) => buf,
                None => {
                    // What waits in the outbox holds buffers: let it go.
                    io.start_flush(self.at);
                    self.within_timeout(self.core.buf()).await??
                }
            };
            io.socket(self.at).writable()?; // it may have failed while we waited for the buffer
            bytes = &bytes[buf.put_some(bytes)..];
            let mut full = io.push_joinable(self.at, buf).err();
            while let Some(buf) = full {
                Send::new(self, None, true).await?;
                io.socket(self.at).writable()?;
                full = io.push_joinable(self.at, buf).err();
            }
            io.flush_if_short(self.at);
        }
        Ok(())
    }

    pub(crate) async fn within_timeout<F: Future>(self, future: F) -> Result<F::Output> {
        match self.core.parts()?.io.socket(self.at).send_limit() {
            None => Ok(future.await),
            Some((_, span)) => self.core.timeout(span, future).await.map_err(|_| Error::TimedOut),
        }
    }

    pub(super) async fn send_copy(self, bytes: &[u8]) -> Result<()> {
        self.push_copy(bytes).await?;
        Send::new(self, None, true).await
    }
}
