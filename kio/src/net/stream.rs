//! What TCP and, later, other streams share: library code takes `impl Stream`.

use core::time::Duration;

use super::tcp::SocketRef;
use crate::Core;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::op::Out;

/// The receiving side of a stream.
#[allow(async_fn_in_trait, reason = "kio's futures are bound to their worker anyway")]
pub trait RecvHalf {
    /// The worker.
    fn core(&self) -> Core;

    /// Waits for the next received bytes: a buffer of this worker's store, not a copy. `None` at
    /// the end of the stream.
    ///
    /// Cancel safety: no byte is lost. Errors: the system's (a reset), `TimedOut` past the receive
    /// timeout, `Stalled`, `Stopped`.
    async fn recv(&mut self) -> Result<Option<Buf>>;

    /// As `recv`, for the time between requests: gives `None` too once the pool stops and nothing
    /// has arrived.
    async fn recv_idle(&mut self) -> Result<Option<Buf>>;

    /// Takes the next received bytes, if some are here already: what came with those that `recv` gave
    /// can so be answered by one send.
    ///
    /// Only what this worker has taken from the kernel counts, at most a `window`. `None` says nothing
    /// of the stream's end, nor of errors, and starts no receive: `recv` does. No system call. A stream
    /// that keeps no received bytes has none here.
    ///
    /// ```
    /// # async fn echo(mut conn: kio::net::TcpStream) -> kio::Result<()> {
    /// while let Some(data) = conn.recv_idle().await? {
    ///     conn.push(data).await?;
    ///     while let Some(more) = conn.try_recv() {
    ///         conn.push(more).await?;
    ///     }
    ///     conn.flush().await?; // all of it in one send
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn try_recv(&mut self) -> Option<Buf> {
        None
    }

    /// Waits for received bytes and copies them behind what is in `into`, as many as fit; the rest
    /// stays for the next call. For requests that arrive in parts. Returns how many; 0 at the end
    /// of the stream.
    ///
    /// Cancel safety: no byte is lost. Errors: as `recv`; a full buffer is one too.
    async fn recv_into(&mut self, into: &mut BufMut) -> Result<usize>;

    /// As `recv_into`, for the time between requests: gives 0 too once the pool stops and nothing
    /// has arrived.
    async fn recv_idle_into(&mut self, into: &mut BufMut) -> Result<usize>;

    /// The TCP socket that this is, where nothing is between: relays take its buffers directly.
    #[doc(hidden)]
    fn recv_socket(&self) -> Option<SocketRef> {
        None
    }
}

/// The sending side of a stream.
///
/// What is pushed belongs to the stream's outbox, in order. A send that is given up is not undone:
/// what was pushed goes out whole.
#[allow(async_fn_in_trait, reason = "kio's futures are bound to their worker anyway")]
pub trait SendHalf {
    /// The worker.
    fn core(&self) -> Core;

    /// Adds to the outbox; waits, sending, while that is full. Nothing is copied.
    async fn push(&mut self, out: impl Into<Out>) -> Result<()>;

    /// Adds to the outbox, or gives back what did not fit (or the stream has failed: `flush` tells).
    fn try_push(&mut self, out: impl Into<Out>) -> core::result::Result<(), Out>;

    /// Copies into the outbox: into its last copied buffer where there is room, else into new
    /// buffers of the store, waiting for them.
    async fn push_copy(&mut self, bytes: &[u8]) -> Result<()>;

    /// Sends what was pushed, gathered; waits until the system has taken all of it.
    async fn flush(&mut self) -> Result<()>;

    /// `push`, then `flush`.
    async fn send(&mut self, out: impl Into<Out>) -> Result<()>;

    /// `push_copy`, then `flush`.
    async fn send_copy(&mut self, bytes: &[u8]) -> Result<()>;

    /// Flushes, then tells the peer that nothing more comes. Receiving goes on.
    async fn shutdown(&mut self) -> Result<()>;

    /// Bytes that a buffer should have free beside what is pushed, so that no other is needed to
    /// send it: what sealing adds.
    #[doc(hidden)]
    fn record_room(&self) -> usize {
        0
    }

    /// As `recv_socket`, to send to.
    #[doc(hidden)]
    fn send_socket(&self) -> Option<SocketRef> {
        None
    }
}

/// A connection: both sides, and what concerns the whole.
#[allow(async_fn_in_trait, reason = "kio's futures are bound to their worker anyway")]
pub trait Stream: RecvHalf + SendHalf {
    /// The receiving side, borrowed.
    type Recv<'a>: RecvHalf
    where
        Self: 'a;
    /// The sending side, borrowed.
    type Send<'a>: SendHalf
    where
        Self: 'a;

    /// Both sides, to be used at once.
    fn split(&mut self) -> (Self::Recv<'_>, Self::Send<'_>);

    /// Ends the connection in order, for whoever says the last word: flushes, tells the peer that
    /// nothing more comes, and takes and drops what he still sends, until he ends his side; all of it
    /// for `limit` at most; then closes. A close on bytes that nobody has read is a reset, which could
    /// destroy the last reply on its way.
    ///
    /// Errors: the flush's, and `TimedOut` where the peer did not take what was pushed, or end his
    /// side, in time; closed all the same. Cancel safety: given up, it is closed at once.
    async fn finish(mut self, limit: Duration) -> Result<()>
    where
        Self: Sized,
    {
        let core = RecvHalf::core(&self);
        let ended = async move {
            self.shutdown().await?;
            while let Ok(Some(_)) = self.recv_idle().await {}
            self.close().await
        };
        core.timeout(limit, ended).await.unwrap_or(Err(Error::TimedOut))
    }

    /// Flushes, closes, and waits until the connection's slot is free again. Dropping closes too,
    /// without waiting, and drops what was not sent.
    async fn close(self) -> Result<()>;
}
