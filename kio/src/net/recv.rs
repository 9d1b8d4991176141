//! The futures that receive.

use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::tcp::Socket;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::op::Limit;
use crate::worker::Parts;

/// Waits for received bytes; see `TcpStream::recv`.
///
/// Cancel safety: dropped, it took nothing; data belongs to the connection.
#[must_use = "it does nothing until awaited"]
pub struct Recv<'a> {
    socket: Socket,
    /// Ends with `None` when the pool stops.
    idle: bool,
    timed: bool,
    _stream: PhantomData<&'a mut ()>,
}

impl Recv<'_> {
    #[inline]
    pub(super) fn new(socket: Socket, idle: bool) -> Self {
        Self { socket, idle, timed: false, _stream: PhantomData }
    }
}

/// Nothing is queued: ends, or waits. Apart from the polls, so that taking what is there is inlined
/// where it is awaited.
#[inline(never)]
fn wait(
    parts: &'static Parts,
    at: u32,
    idle: bool,
    timed: &mut bool,
    cx: &Context<'_>,
) -> Poll<Result<()>> {
    let socket = parts.io.socket(at);
    let ends = idle && parts.stopping.get();
    if ends && parts.io.is_quiet(at) {
        return Poll::Ready(Ok(()));
    }
    let waited = parts.io.wait_received(at, socket, cx);
    if waited.is_ready() {
        return waited;
    }
    if ends && !parts.io.waits_for_buffer(at) {
        // A request may lie in the socket already: the next turn tells.
        cx.waker().wake_by_ref();
    }
    wait_at_most(parts, socket.recv_limit(), timed, cx)
}

impl Future for Recv<'_> {
    type Output = Result<Option<Buf>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let parts = this.socket.core.parts()?;
        match parts.io.receive(this.socket.at) {
            Some(buf) => Poll::Ready(Ok(Some(buf))),
            None => wait(parts, this.socket.at, this.idle, &mut this.timed, cx).map_ok(|()| None),
        }
    }
}

/// Waits for received bytes and copies them; see `TcpStream::recv_into`.
#[must_use = "it does nothing until awaited"]
pub struct RecvInto<'a> {
    socket: Socket,
    into: &'a mut BufMut,
    /// Ends with 0 when the pool stops.
    idle: bool,
    timed: bool,
}

impl<'a> RecvInto<'a> {
    pub(super) fn new(socket: Socket, into: &'a mut BufMut, idle: bool) -> Self {
        Self { socket, into, idle, timed: false }
    }
}

impl Future for RecvInto<'_> {
    type Output = Result<usize>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let parts = this.socket.core.parts()?;
        let at = this.socket.at;
        if this.into.spare() == 0 {
            return Poll::Ready(Err(Error::Other(
                "recv_into: the buffer is full: consume and compact it, or refuse the request",
            )));
        }
        match parts.io.receive_into(at, this.into) {
            0 => wait(parts, at, this.idle, &mut this.timed, cx).map_ok(|()| 0),
            n => Poll::Ready(Ok(n)),
        }
    }
}

/// Pends, at most for the span since the first call of a future, which `timed` tells. The timer is
/// in the socket's slot, so that the futures are small; one that was given up leaves it to the next.
#[inline]
pub(super) fn wait_at_most<T>(
    parts: &'static Parts,
    limit: Option<Limit>,
    timed: &mut bool,
    cx: &Context<'_>,
) -> Poll<Result<T>> {
    let Some((timer, span)) = limit else { return Poll::Pending };
    if !*timed {
        timer.leave();
    } else if !timer.is_waiting() {
        return Poll::Ready(Err(Error::TimedOut));
    }
    *timed = true;
    parts.timers.set_after(timer, span, &parts.tasks, cx);
    Poll::Pending
}
