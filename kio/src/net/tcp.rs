//! TCP streams, their halves, and the one thing behind all of them.

use core::fmt;
use core::future::poll_fn;
use core::marker::PhantomData;
use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;

use super::recv::{Recv, RecvInto};
use super::send::Send;
use super::stream::{RecvHalf, SendHalf, Stream};
use crate::Core;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::op::Out;

/// A socket slot of a worker, named by a handle.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    pub(crate) core: Core,
    pub(super) at: u32,
}

/// A socket, for what is in this crate.
#[doc(hidden)]
pub struct SocketRef(pub(super) Socket);

impl Socket {
    #[inline]
    pub(crate) fn try_push(self, out: Out) -> core::result::Result<(), Out> {
        let Ok(parts) = self.core.parts() else { return Err(out) };
        let socket = parts.io.socket(self.at);
        if socket.writable().is_err() {
            return Err(out);
        }
        let pushed = parts.io.push_out(self.at, socket, out);
        parts.io.flush_if_short(self.at);
        pushed
    }

    /// Gives `future` as long as a receive may wait.
    #[cfg(any(feature = "embedded-io-async", feature = "tls"))]
    pub(crate) async fn within_recv_timeout<F: Future>(self, future: F) -> Result<F::Output> {
        match self.core.parts()?.io.socket(self.at).recv_limit() {
            None => Ok(future.await),
            Some((_, span)) => self.core.timeout(span, future).await.map_err(|_| Error::TimedOut),
        }
    }

    pub(crate) async fn shutdown(self) -> Result<()> {
        match Send::new(self, None, true).await {
            Ok(()) => {}
            Err(Error::WriteClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
        poll_fn(|cx| match self.core.parts() {
            Ok(parts) => parts.io.poll_shutdown(self.at, cx),
            Err(stopped) => Poll::Ready(Err(stopped)),
        })
        .await
    }
}

/// A TCP connection. Dropped, it is closed without waiting.
pub struct TcpStream {
    pub(super) socket: Socket,
}

/// The receiving side of a [`TcpStream`], borrowed.
pub struct TcpRecvHalf<'a> {
    socket: Socket,
    _stream: PhantomData<&'a mut TcpStream>,
}

/// The sending side of a [`TcpStream`], borrowed.
pub struct TcpSendHalf<'a> {
    socket: Socket,
    _stream: PhantomData<&'a mut TcpStream>,
}

/// The receiving side of a [`TcpStream`], owned: it can move into a task of its own. The connection
/// closes when both sides are gone.
pub struct OwnedRecvHalf {
    socket: Socket,
}

/// The sending side of a [`TcpStream`], owned. Dropped before the receiving side, it sends what was
/// pushed and then tells the peer that nothing more comes.
pub struct OwnedSendHalf {
    socket: Socket,
}

macro_rules! receives {
    ($type:ty) => {
        impl $type {
            /// See [`RecvHalf::recv`].
            #[inline]
            pub fn recv(&mut self) -> Recv<'_> {
                Recv::new(self.socket, false)
            }

            /// See [`RecvHalf::recv_idle`].
            #[inline]
            pub fn recv_idle(&mut self) -> Recv<'_> {
                Recv::new(self.socket, true)
            }

            /// See [`RecvHalf::try_recv`].
            #[inline]
            pub fn try_recv(&mut self) -> Option<Buf> {
                self.socket.core.parts().ok()?.io.receive(self.socket.at)
            }

            /// See [`RecvHalf::recv_into`].
            pub fn recv_into<'a>(&'a mut self, into: &'a mut BufMut) -> RecvInto<'a> {
                RecvInto::new(self.socket, into, false)
            }

            /// See [`RecvHalf::recv_idle_into`].
            pub fn recv_idle_into<'a>(&'a mut self, into: &'a mut BufMut) -> RecvInto<'a> {
                RecvInto::new(self.socket, into, true)
            }
        }

        impl RecvHalf for $type {
            fn core(&self) -> Core {
                self.socket.core
            }

            async fn recv(&mut self) -> Result<Option<Buf>> {
                Recv::new(self.socket, false).await
            }

            async fn recv_idle(&mut self) -> Result<Option<Buf>> {
                Recv::new(self.socket, true).await
            }

            fn try_recv(&mut self) -> Option<Buf> {
                self.socket.core.parts().ok()?.io.receive(self.socket.at)
            }

            async fn recv_into(&mut self, into: &mut BufMut) -> Result<usize> {
                RecvInto::new(self.socket, into, false).await
            }

            async fn recv_idle_into(&mut self, into: &mut BufMut) -> Result<usize> {
                RecvInto::new(self.socket, into, true).await
            }

            fn recv_socket(&self) -> Option<SocketRef> {
                Some(SocketRef(self.socket))
            }
        }
    };
}

macro_rules! sends {
    ($type:ty) => {
        impl $type {
            /// See [`SendHalf::push`].
            #[inline]
            pub fn push(&mut self, out: impl Into<Out>) -> Send<'_> {
                Send::new(self.socket, Some(out.into()), false)
            }

            /// See [`SendHalf::try_push`].
            pub fn try_push(&mut self, out: impl Into<Out>) -> core::result::Result<(), Out> {
                self.socket.try_push(out.into())
            }

            /// See [`SendHalf::push_copy`].
            pub async fn push_copy(&mut self, bytes: &[u8]) -> Result<()> {
                self.socket.push_copy(bytes).await
            }

            /// See [`SendHalf::flush`].
            #[inline]
            pub fn flush(&mut self) -> Send<'_> {
                Send::new(self.socket, None, true)
            }

            /// See [`SendHalf::send`].
            #[inline]
            pub fn send(&mut self, out: impl Into<Out>) -> Send<'_> {
                Send::new(self.socket, Some(out.into()), true)
            }

            /// See [`SendHalf::send_copy`].
            pub async fn send_copy(&mut self, bytes: &[u8]) -> Result<()> {
                self.socket.send_copy(bytes).await
            }

            /// See [`SendHalf::shutdown`].
            pub async fn shutdown(&mut self) -> Result<()> {
                self.socket.shutdown().await
            }
        }

        impl SendHalf for $type {
            fn core(&self) -> Core {
                self.socket.core
            }

            async fn push(&mut self, out: impl Into<Out>) -> Result<()> {
                Send::new(self.socket, Some(out.into()), false).await
            }

            fn try_push(&mut self, out: impl Into<Out>) -> core::result::Result<(), Out> {
                self.socket.try_push(out.into())
            }

            async fn push_copy(&mut self, bytes: &[u8]) -> Result<()> {
                self.socket.push_copy(bytes).await
            }

            async fn flush(&mut self) -> Result<()> {
                Send::new(self.socket, None, true).await
            }

            async fn send(&mut self, out: impl Into<Out>) -> Result<()> {
                Send::new(self.socket, Some(out.into()), true).await
            }

            async fn send_copy(&mut self, bytes: &[u8]) -> Result<()> {
                self.socket.send_copy(bytes).await
            }

            async fn shutdown(&mut self) -> Result<()> {
                self.socket.shutdown().await
            }

            fn send_socket(&self) -> Option<SocketRef> {
                Some(SocketRef(self.socket))
            }
        }
    };
}

macro_rules! of_connection {
    ($type:ty) => {
        impl $type {
            /// The worker.
            pub fn core(&self) -> Core {
                self.socket.core
            }

            /// The peer's address.
            pub fn peer_addr(&self) -> Result<SocketAddr> {
                let addr = self.socket.core.parts()?.io.peer_addr(self.socket.at);
                addr.ok_or(Error::Other("the peer has no internet address"))
            }

            /// This side's address. Not known for a direct descriptor accepted by a listener that
            /// is bound to any address: listen on one, or with `real_fds`.
            pub fn local_addr(&self) -> Result<SocketAddr> {
                let addr = self.socket.core.parts()?.io.local_addr(self.socket.at);
                addr.ok_or(Error::Other(
                    "local_addr: this kernel does not tell it of a direct descriptor accepted on \
                     a wildcard address: listen on one address, or with `real_fds`",
                ))
            }

            /// How long a receive may wait for bytes, in whole milliseconds; `None`, the default,
            /// is for ever.
            pub fn set_recv_timeout(&self, timeout: Option<Duration>) {
                if let Ok(parts) = self.socket.core.parts() {
                    parts.io.set_recv_timeout(self.socket.at, timeout);
                }
            }

            /// How long a send may wait until the system has taken its bytes. Past it the send
            /// fails with `TimedOut` and is cut off; as part of it may have gone out, later sends
            /// fail with `WriteCut`.
            pub fn set_send_timeout(&self, timeout: Option<Duration>) {
                if let Ok(parts) = self.socket.core.parts() {
                    parts.io.set_send_timeout(self.socket.at, timeout);
                }
            }

            /// The real descriptor beside the connection's slot, where `real_fds` asked for one. It
            /// stays the connection's: for socket options, not for closing.
            pub fn real_fd(&self) -> Option<i32> {
                self.socket.core.parts().ok()?.io.real_fd(self.socket.at)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($type), self.peer_addr().ok())
            }
        }
    };
}

macro_rules! names_socket {
    ($feature:meta: $($type:ty),*) => { $(
        #[cfg($feature)]
        impl $type {
            pub(crate) fn socket(&self) -> Socket {
                self.socket
            }
        }
    )* };
}

names_socket!(any(feature = "embedded-io-async", feature = "tls"): TcpStream, OwnedRecvHalf);
names_socket!(feature = "embedded-io-async": TcpRecvHalf<'_>);
names_socket!(feature = "tls": OwnedSendHalf);
receives!(TcpStream);
receives!(TcpRecvHalf<'_>);
receives!(OwnedRecvHalf);
sends!(TcpStream);
sends!(TcpSendHalf<'_>);
sends!(OwnedSendHalf);
of_connection!(TcpStream);
of_connection!(OwnedRecvHalf);
of_connection!(OwnedSendHalf);

impl TcpStream {
    /// Takes an open socket over.
    #[inline]
    pub(super) fn new(core: Core, at: u32) -> Self {
        if let Ok(parts) = core.parts() {
            parts.io.add_handle(at);
        }
        Self { socket: Socket { core, at } }
    }

    /// Both sides, borrowed, to be used at once.
    pub fn split(&mut self) -> (TcpRecvHalf<'_>, TcpSendHalf<'_>) {
        let socket = self.socket;
        (TcpRecvHalf { socket, _stream: PhantomData }, TcpSendHalf { socket, _stream: PhantomData })
    }

    /// Both sides, owned, to be used by two tasks.
    pub fn into_split(self) -> (OwnedRecvHalf, OwnedSendHalf) {
        let socket = self.socket;
        if let Ok(parts) = socket.core.parts() {
            parts.io.add_handle(socket.at);
        }
        core::mem::forget(self);
        (OwnedRecvHalf { socket }, OwnedSendHalf { socket })
    }

    /// Ends the connection in order: see [`Stream::finish`].
    pub async fn finish(self, limit: Duration) -> Result<()> {
        Stream::finish(self, limit).await
    }

    /// Flushes, closes, and waits until the connection's slot is free again. The error is the
    /// flush's; it is closed all the same.
    pub async fn close(mut self) -> Result<()> {
        let flushed = match self.flush().await {
            Err(Error::WriteClosed) => Ok(()),
            flushed => flushed,
        };
        let Socket { core, at } = self.socket;
        let generation = core.parts()?.io.generation(at);
        drop(self);
        poll_fn(|cx| match core.parts() {
            Ok(parts) => parts.io.poll_closed(at, generation, cx),
            Err(_) => Poll::Ready(()),
        })
        .await;
        flushed
    }
}

impl Stream for TcpStream {
    type Recv<'a> = TcpRecvHalf<'a>;
    type Send<'a> = TcpSendHalf<'a>;

    fn split(&mut self) -> (TcpRecvHalf<'_>, TcpSendHalf<'_>) {
        self.split()
    }

    async fn close(self) -> Result<()> {
        self.close().await
    }
}

impl Drop for TcpStream {
    #[inline]
    fn drop(&mut self) {
        if let Ok(parts) = self.socket.core.parts() {
            parts.io.drop_handle(self.socket.at, true);
        }
    }
}

impl Drop for OwnedRecvHalf {
    fn drop(&mut self) {
        if let Ok(parts) = self.socket.core.parts() {
            parts.io.drop_handle(self.socket.at, false);
        }
    }
}

impl Drop for OwnedSendHalf {
    fn drop(&mut self) {
        if let Ok(parts) = self.socket.core.parts() {
            parts.io.drop_handle(self.socket.at, true);
        }
    }
}
