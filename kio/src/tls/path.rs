//! Which way a connection's data goes: one name for what both ways do.

use super::kernel::Kernel;
use super::user::{OVERHEAD, User};
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::net::{Out, Socket};

#[allow(clippy::large_enum_variant, reason = "one a connection, on the heap")]
pub(super) enum Path {
    User(User),
    Kernel(Kernel),
}

impl Path {
    pub(super) async fn recv(&self, socket: Socket, idle: bool) -> Result<Option<Buf>> {
        match self {
            Self::User(user) => user.recv(socket, idle).await,
            Self::Kernel(kernel) => kernel.recv(socket, idle).await,
        }
    }

    pub(super) fn try_recv(&self, socket: Socket) -> Option<Buf> {
        match self {
            Self::User(user) => user.try_recv(socket),
            Self::Kernel(kernel) => kernel.try_recv(),
        }
    }

    pub(super) async fn recv_into(
        &self,
        socket: Socket,
        into: &mut BufMut,
        idle: bool,
    ) -> Result<usize> {
        if into.spare() == 0 {
            return Err(Error::Other(
                "recv_into: the buffer is full: consume and compact it, or refuse the request",
            ));
        }
        match self {
            Self::User(user) => user.recv_with(socket, idle, |bytes| into.put_some(bytes)).await,
            Self::Kernel(kernel) => kernel.recv_into(socket, into, idle).await,
        }
    }

    /// Copies received bytes into a caller's slice, at least one, unless the stream has ended.
    #[cfg(feature = "embedded-io-async")]
    pub(super) async fn read(&self, socket: Socket, into: &mut [u8]) -> Result<usize> {
        let mut at = 0;
        let copy = |bytes: &[u8]| {
            let n = bytes.len().min(into.len() - at);
            into[at..at + n].copy_from_slice(&bytes[..n]);
            at += n;
            n
        };
        match self {
            Self::User(user) => user.recv_with(socket, false, copy).await,
            Self::Kernel(kernel) => kernel.recv_with(socket, copy).await,
        }
    }

    pub(super) async fn push(&self, socket: Socket, out: Out) -> Result<()> {
        let pushed = match self {
            Self::User(user) => user.push(socket, out).await,
            Self::Kernel(kernel) => match kernel.may_send() {
                Ok(()) => socket.push(out).await,
                Err(error) => Err(error),
            },
        };
        last_words(socket, pushed).await
    }

    /// Bytes that a buffer should have free beside what is pushed, so that its record fits.
    pub(super) fn room(&self) -> usize {
        match self {
            Self::User(_) => OVERHEAD,
            Self::Kernel(_) => 0,
        }
    }

    pub(super) fn try_push(&self, socket: Socket, out: Out) -> core::result::Result<(), Out> {
        match self {
            Self::User(user) => user.try_push(socket, out),
            Self::Kernel(kernel) if kernel.may_send().is_ok() => socket.try_push(out),
            Self::Kernel(_) => Err(out),
        }
    }

    pub(super) async fn push_copy(&self, socket: Socket, bytes: &[u8]) -> Result<()> {
        let pushed = match self {
            Self::User(user) => user.push_copy(socket, bytes).await,
            Self::Kernel(kernel) => match kernel.may_send() {
                Ok(()) => socket.push_copy(bytes).await,
                Err(error) => Err(error),
            },
        };
        last_words(socket, pushed).await
    }

    pub(super) async fn flush(&self, socket: Socket) -> Result<()> {
        match self {
            Self::User(user) => last_words(socket, user.flush(socket).await).await,
            Self::Kernel(_) => socket.flush().await,
        }
    }

    /// Pushes and flushes.
    pub(super) async fn send(&self, socket: Socket, out: Out) -> Result<()> {
        match self {
            Self::User(user) => last_words(socket, user.send(socket, out).await).await,
            Self::Kernel(_) => {
                self.push(socket, out).await?;
                socket.flush().await
            }
        }
    }

    pub(super) async fn shutdown(&self, socket: Socket) -> Result<()> {
        match self {
            Self::User(user) => user.shutdown(socket).await,
            Self::Kernel(kernel) => kernel.shutdown().await,
        }
    }

    /// What goes before the socket is closed: all that was pushed, and close_notify.
    pub(super) async fn close(&self, socket: Socket) -> Result<()> {
        match self {
            Self::User(user) => user.close_notify(socket).await,
            Self::Kernel(kernel) => kernel.shutdown().await,
        }
    }

    /// Begins to end the sending side, for a half that is dropped.
    pub(super) fn end(&self, socket: Socket) {
        match self {
            Self::User(user) => user.end(socket),
            Self::Kernel(kernel) => kernel.end(),
        }
    }
}

/// A connection whose keys are used up ends in order: close_notify is on its way, and may leave before
/// the error is told.
#[inline]
async fn last_words(socket: Socket, sent: Result<()>) -> Result<()> {
    if matches!(sent, Err(Error::Tls(_))) {
        socket.flush_some().await;
    }
    sent
}
