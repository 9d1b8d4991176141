//! TLS streams and their halves: what a `TcpStream` has, over either data path.

use alloc::rc::Rc;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use super::info::{DataPath, Info};
use super::path::Path;
use crate::Core;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::net::{self, Out, RecvHalf, SendHalf, Socket, Stream, TcpStream};

/// What both sides of a connection share.
pub(super) struct Shared {
    pub(super) path: Path,
    info: Info,
    told: DataPath,
}

/// A TLS connection, its handshake done. It has what a [`TcpStream`] has, and behaves as it does;
/// what differs stands here.
///
/// - The end of the stream is the peer's close_notify. A connection that ends without it gives
///   [`TlsError::Truncated`](super::TlsError): someone may have cut it.
/// - `shutdown` and `close` send close_notify. **Dropped, it is closed at once, without**: the peer
///   then sees the connection cut.
/// - A small `push` is put together with the next ones; one `flush` of little makes one record.
/// - A send that is given up is not undone; what was pushed goes out whole with the next flush.
pub struct TlsStream {
    tcp: TcpStream,
    shared: Rc<Shared>,
}

/// The receiving side of a [`TlsStream`], borrowed.
pub struct TlsRecvHalf<'a> {
    socket: Socket,
    shared: &'a Shared,
}

/// The sending side of a [`TlsStream`], borrowed.
pub struct TlsSendHalf<'a> {
    socket: Socket,
    shared: &'a Shared,
}

/// The receiving side of a [`TlsStream`], owned: it can move into a task of its own. The connection
/// closes when both sides are gone.
pub struct OwnedRecvHalf {
    tcp: net::OwnedRecvHalf,
    shared: Rc<Shared>,
}

/// The sending side of a [`TlsStream`], owned. Dropped before the receiving side, it sends
/// close_notify behind what was pushed, as far as that needs no waiting, and ends the write side.
pub struct OwnedSendHalf {
    tcp: net::OwnedSendHalf,
    shared: Rc<Shared>,
}

impl TlsStream {
    pub(super) fn new(tcp: TcpStream, path: Path, info: Info, told: DataPath) -> Self {
        Self { tcp, shared: Rc::new(Shared { path, info, told }) }
    }

    /// Both sides, borrowed, to be used at once.
    pub fn split(&mut self) -> (TlsRecvHalf<'_>, TlsSendHalf<'_>) {
        let (socket, shared) = (self.tcp.socket(), &*self.shared);
        (TlsRecvHalf { socket, shared }, TlsSendHalf { socket, shared })
    }

    /// Both sides, owned, to be used by two tasks.
    pub fn into_split(self) -> (OwnedRecvHalf, OwnedSendHalf) {
        let Self { tcp, shared } = self;
        let (recv, send) = tcp.into_split();
        (OwnedRecvHalf { tcp: recv, shared: shared.clone() }, OwnedSendHalf { tcp: send, shared })
    }

    /// Ends the connection in order: see [`Stream::finish`].
    pub async fn finish(self, limit: Duration) -> Result<()> {
        Stream::finish(self, limit).await
    }

    /// Flushes, sends close_notify, closes, and waits until the connection's slot is free again. The
    /// error is the flush's; it is closed all the same.
    pub async fn close(self) -> Result<()> {
        let notified = match self.shared.path.close(self.tcp.socket()).await {
            Err(Error::WriteClosed) => Ok(()),
            notified => notified,
        };
        let closed = self.tcp.close().await;
        notified.and(closed)
    }
}

impl Stream for TlsStream {
    type Recv<'a> = TlsRecvHalf<'a>;
    type Send<'a> = TlsSendHalf<'a>;

    fn split(&mut self) -> (TlsRecvHalf<'_>, TlsSendHalf<'_>) {
        self.split()
    }

    async fn close(self) -> Result<()> {
        self.close().await
    }
}

impl Drop for OwnedSendHalf {
    fn drop(&mut self) {
        self.shared.path.end(self.tcp.socket());
    }
}

macro_rules! receives {
    ($type:ty) => {
        impl $type {
            /// See [`RecvHalf::recv`].
            pub async fn recv(&mut self) -> Result<Option<Buf>> {
                self.shared.path.recv(self.socket(), false).await
            }

            /// See [`RecvHalf::recv_idle`].
            pub async fn recv_idle(&mut self) -> Result<Option<Buf>> {
                self.shared.path.recv(self.socket(), true).await
            }

            /// See [`RecvHalf::try_recv`]. Where rustls does the records it decrypts what has come;
            /// whole records only are there to take.
            pub fn try_recv(&mut self) -> Option<Buf> {
                self.shared.path.try_recv(self.socket())
            }

            /// See [`RecvHalf::recv_into`].
            pub async fn recv_into(&mut self, into: &mut BufMut) -> Result<usize> {
                self.shared.path.recv_into(self.socket(), into, false).await
            }

            /// See [`RecvHalf::recv_idle_into`].
            pub async fn recv_idle_into(&mut self, into: &mut BufMut) -> Result<usize> {
                self.shared.path.recv_into(self.socket(), into, true).await
            }
        }

        impl RecvHalf for $type {
            fn core(&self) -> Core {
                self.socket().core
            }

            async fn recv(&mut self) -> Result<Option<Buf>> {
                self.recv().await
            }

            async fn recv_idle(&mut self) -> Result<Option<Buf>> {
                self.recv_idle().await
            }

            fn try_recv(&mut self) -> Option<Buf> {
                self.try_recv()
            }

            async fn recv_into(&mut self, into: &mut BufMut) -> Result<usize> {
                self.recv_into(into).await
            }

            async fn recv_idle_into(&mut self, into: &mut BufMut) -> Result<usize> {
                self.recv_idle_into(into).await
            }
        }
    };
}

macro_rules! sends {
    ($type:ty) => {
        impl $type {
            /// See [`SendHalf::push`].
            pub async fn push(&mut self, out: impl Into<Out>) -> Result<()> {
                self.shared.path.push(self.socket(), out.into()).await
            }

            /// See [`SendHalf::try_push`].
            pub fn try_push(&mut self, out: impl Into<Out>) -> core::result::Result<(), Out> {
                self.shared.path.try_push(self.socket(), out.into())
            }

            /// See [`SendHalf::push_copy`].
            pub async fn push_copy(&mut self, bytes: &[u8]) -> Result<()> {
                self.shared.path.push_copy(self.socket(), bytes).await
            }

            /// See [`SendHalf::flush`].
            pub async fn flush(&mut self) -> Result<()> {
                self.shared.path.flush(self.socket()).await
            }

            /// See [`SendHalf::send`].
            pub async fn send(&mut self, out: impl Into<Out>) -> Result<()> {
                self.shared.path.send(self.socket(), out.into()).await
            }

            /// See [`SendHalf::send_copy`].
            pub async fn send_copy(&mut self, bytes: &[u8]) -> Result<()> {
                self.push_copy(bytes).await?;
                self.flush().await
            }

            /// See [`SendHalf::shutdown`]. close_notify goes before.
            pub async fn shutdown(&mut self) -> Result<()> {
                self.shared.path.shutdown(self.socket()).await
            }
        }

        impl SendHalf for $type {
            fn core(&self) -> Core {
                self.socket().core
            }

            async fn push(&mut self, out: impl Into<Out>) -> Result<()> {
                self.push(out).await
            }

            fn try_push(&mut self, out: impl Into<Out>) -> core::result::Result<(), Out> {
                self.try_push(out)
            }

            async fn push_copy(&mut self, bytes: &[u8]) -> Result<()> {
                self.push_copy(bytes).await
            }

            async fn flush(&mut self) -> Result<()> {
                self.flush().await
            }

            async fn send(&mut self, out: impl Into<Out>) -> Result<()> {
                self.send(out).await
            }

            async fn send_copy(&mut self, bytes: &[u8]) -> Result<()> {
                self.send_copy(bytes).await
            }

            async fn shutdown(&mut self) -> Result<()> {
                self.shutdown().await
            }

            fn record_room(&self) -> usize {
                self.shared.path.room()
            }
        }
    };
}

macro_rules! of_connection {
    ($type:ty) => {
        impl $type {
            pub(super) fn socket(&self) -> Socket {
                self.tcp.socket()
            }

            /// The worker.
            pub fn core(&self) -> Core {
                self.tcp.core()
            }

            /// What the handshake agreed on.
            pub fn info(&self) -> &Info {
                &self.shared.info
            }

            /// Who encrypts and decrypts the data.
            pub fn data_path(&self) -> DataPath {
                self.shared.told
            }

            /// See [`TcpStream::peer_addr`].
            pub fn peer_addr(&self) -> Result<SocketAddr> {
                self.tcp.peer_addr()
            }

            /// See [`TcpStream::local_addr`].
            pub fn local_addr(&self) -> Result<SocketAddr> {
                self.tcp.local_addr()
            }

            /// See [`TcpStream::set_recv_timeout`]. It bounds each wait for bytes of a record.
            pub fn set_recv_timeout(&self, timeout: Option<Duration>) {
                self.tcp.set_recv_timeout(timeout);
            }

            /// See [`TcpStream::set_send_timeout`].
            pub fn set_send_timeout(&self, timeout: Option<Duration>) {
                self.tcp.set_send_timeout(timeout);
            }

            /// See [`TcpStream::real_fd`].
            pub fn real_fd(&self) -> Option<i32> {
                self.tcp.real_fd()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?}, {})", stringify!($type), self.tcp, self.data_path())
            }
        }
    };
}

macro_rules! borrowed {
    ($type:ty) => {
        impl $type {
            pub(super) fn socket(&self) -> Socket {
                self.socket
            }
        }
    };
}

borrowed!(TlsRecvHalf<'_>);
borrowed!(TlsSendHalf<'_>);
of_connection!(TlsStream);
of_connection!(OwnedRecvHalf);
of_connection!(OwnedSendHalf);
receives!(TlsStream);
receives!(TlsRecvHalf<'_>);
receives!(OwnedRecvHalf);
sends!(TlsStream);
sends!(TlsSendHalf<'_>);
sends!(OwnedSendHalf);

macro_rules! shared {
    ($($type:ty),*) => { $(
        #[cfg(feature = "embedded-io-async")]
        impl $type {
            pub(super) fn shared(&self) -> &Shared {
                &self.shared
            }
        }
    )* };
}

shared!(TlsStream, TlsRecvHalf<'_>, OwnedRecvHalf);
