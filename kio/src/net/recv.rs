//! The futures that receive.

use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::tcp::Socket;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::op::Received;
use crate::time::Sleep;

pin_project! {
    /// Waits for received bytes; see `TcpStream::recv`.
    ///
    /// Cancel safety: dropped, it took nothing; data belongs to the connection.
    #[must_use = "it does nothing until awaited"]
    pub struct Recv<'a> {
        socket: Socket,
        // Ends with `None` when the pool stops.
        idle: bool,
        #[pin]
        sleep: Option<Sleep>,
        stream: PhantomData<&'a mut ()>,
    }
}

impl Recv<'_> {
    #[inline]
    pub(super) fn new(socket: Socket, idle: bool) -> Self {
        Self { socket, idle, sleep: None, stream: PhantomData }
    }
}

impl Future for Recv<'_> {
    type Output = Result<Option<Buf>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let parts = this.socket.core.parts()?;
        let at = this.socket.at;
        let ends = *this.idle && parts.stopping.get();
        if ends && parts.io.is_quiet(at) {
            return Poll::Ready(Ok(None));
        }
        match parts.io.receive(at, cx) {
            Received::Data(buf) => Poll::Ready(Ok(Some(buf))),
            Received::End => Poll::Ready(Ok(None)),
            Received::Failed(error) => Poll::Ready(Err(error)),
            Received::Nothing => {
                if ends && !parts.io.waits_for_buffer(at) {
                    // A request may lie in the socket already: the next turn tells.
                    cx.waker().wake_by_ref();
                }
                match parts.io.recv_timeout(at) {
                    None => Poll::Pending,
                    Some(span) => {
                        wait_at_most(this.sleep, || Sleep::from_turn(&parts.timers, span), cx)
                    }
                }
            }
        }
    }
}

pin_project! {
    /// Waits for received bytes and copies them; see `TcpStream::recv_into`.
    #[must_use = "it does nothing until awaited"]
    pub struct RecvInto<'a> {
        socket: Socket,
        into: &'a mut BufMut,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<'a> RecvInto<'a> {
    pub(super) fn new(socket: Socket, into: &'a mut BufMut) -> Self {
        Self { socket, into, sleep: None }
    }
}

impl Future for RecvInto<'_> {
    type Output = Result<usize>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let parts = this.socket.core.parts()?;
        let at = this.socket.at;
        if this.into.spare() == 0 {
            return Poll::Ready(Err(Error::Other(
                "recv_into: the buffer is full: consume and compact it, or refuse the request",
            )));
        }
        match parts.io.receive_into(at, this.into) {
            0 => {}
            n => return Poll::Ready(Ok(n)),
        }
        match parts.io.wait_received(at, cx) {
            Received::Failed(error) => Poll::Ready(Err(error)),
            Received::Nothing => match parts.io.recv_timeout(at) {
                None => Poll::Pending,
                Some(span) => {
                    wait_at_most(this.sleep, || Sleep::from_turn(&parts.timers, span), cx)
                }
            },
            Received::Data(_) | Received::End => Poll::Ready(Ok(0)),
        }
    }
}

/// Pends until the sleep that the first call makes is over.
pub(super) fn wait_at_most<T>(
    mut sleep: Pin<&mut Option<Sleep>>,
    make: impl FnOnce() -> Sleep,
    cx: &mut Context<'_>,
) -> Poll<Result<T>> {
    if sleep.is_none() {
        sleep.set(Some(make()));
    }
    match sleep.as_pin_mut().map(|sleep| sleep.poll(cx)) {
        Some(Poll::Ready(())) => Poll::Ready(Err(Error::TimedOut)),
        _ => Poll::Pending,
    }
}
