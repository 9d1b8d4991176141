//! The traits of `embedded-io-async` on streams: other `no_std` network crates speak them.
//!
//! They lend a caller's slice, which the kernel must not write after the future is gone: so bytes are
//! copied out of, and into, pool buffers.

use core::future::poll_fn;
use core::task::Poll;

use embedded_io_async::{BufRead, ErrorKind, ErrorType, Read, Write};

use super::RecvHalf;
use super::tcp::Socket;
use super::{OwnedRecvHalf, OwnedSendHalf, TcpRecvHalf, TcpSendHalf, TcpStream};
use crate::buf::Buf;
use crate::error::Error;

impl embedded_io_async::Error for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TimedOut => ErrorKind::TimedOut,
            Self::WriteClosed | Self::WriteCut => ErrorKind::BrokenPipe,
            Self::Stalled => ErrorKind::ConnectionReset,
            Self::NotAllowed(_) => ErrorKind::PermissionDenied,
            Self::Os { errno: libc::EPIPE, .. } => ErrorKind::BrokenPipe,
            Self::Os { errno: libc::ECONNRESET, .. } => ErrorKind::ConnectionReset,
            _ => ErrorKind::Other,
        }
    }
}

macro_rules! reads {
    ($type:ty) => {
        impl Read for $type {
            async fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
                read(self.socket(), into).await
            }
        }
    };
}

macro_rules! writes {
    ($type:ty) => {
        impl Write for $type {
            async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
                self.push_copy(bytes).await?;
                Ok(bytes.len())
            }

            async fn flush(&mut self) -> Result<(), Error> {
                self.flush().await
            }
        }
    };
}

macro_rules! error_types {
    ($($type:ty),*) => { $(impl ErrorType for $type { type Error = Error; })* };
}

error_types!(TcpStream, TcpRecvHalf<'_>, TcpSendHalf<'_>, OwnedRecvHalf, OwnedSendHalf);
reads!(TcpStream);
reads!(TcpRecvHalf<'_>);
reads!(OwnedRecvHalf);
writes!(TcpStream);
writes!(TcpSendHalf<'_>);
writes!(OwnedSendHalf);

/// Copies received bytes into a caller's slice: at least one, unless the stream has ended.
async fn read(socket: Socket, into: &mut [u8]) -> Result<usize, Error> {
    if into.is_empty() {
        return Ok(0);
    }
    let read = poll_fn(|cx| {
        let io = &socket.core.parts()?.io;
        let mut at = 0;
        let n = io.receive_with(socket.at, |bytes| {
            let n = bytes.len().min(into.len() - at);
            into[at..at + n].copy_from_slice(&bytes[..n]);
            at += n;
            n
        });
        if n > 0 {
            return Poll::Ready(Ok(n));
        }
        io.wait_received(socket.at, io.socket(socket.at), cx).map_ok(|()| 0)
    });
    socket.within_recv_timeout(read).await?
}

/// Reads a stream through the traits without a copy: `fill_buf` lends the received buffer itself.
pub struct BufReader<R> {
    inner: R,
    current: Option<Buf>,
}

impl<R: RecvHalf> BufReader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, current: None }
    }

    /// The stream, and bytes that were received and not consumed.
    pub fn into_inner(self) -> (R, Option<Buf>) {
        (self.inner, self.current)
    }
}

impl<R> ErrorType for BufReader<R> {
    type Error = Error;
}

impl<R: RecvHalf> Read for BufReader<R> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let bytes = self.fill_buf().await?;
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: RecvHalf> BufRead for BufReader<R> {
    async fn fill_buf(&mut self) -> Result<&[u8], Error> {
        if self.current.is_none() {
            self.current = self.inner.recv().await?;
        }
        Ok(self.current.as_deref().unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        if let Some(current) = &mut self.current {
            current.advance(n);
            if current.is_empty() {
                self.current = None;
            }
        }
    }
}
