//! Receiving: one multishot operation a connection fills its queue from the provided ring.
//!
//! Data belongs to the connection, never to a waiting future, so a receive that is given up loses
//! nothing. The queue is a list through the buffers' headers. A connection's window bounds it: by a
//! cap in the SQE where the kernel knows it (6.18), else by cancelling when the queue is full, and by
//! single receives while free buffers are few.

use core::cell::Cell;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::Io;
use super::slot::Kind;
use super::socket::{Socket, State, flag, recv_op};
use crate::buf::{Buf, BufMut, Header};
use crate::error::Result;
use crate::ring::{Cqe, Sqe};
use crate::task::WaitNode;

fn span(millis: &Cell<u32>) -> Option<Duration> {
    (millis.get() != 0).then(|| Duration::from_millis(millis.get().into()))
}

fn millis(timeout: Option<Duration>) -> u32 {
    timeout.map_or(0, |span| u32::try_from(span.as_millis()).unwrap_or(u32::MAX).max(1))
}

const NO_BUFFER: i32 = -libc::ENOBUFS;
const CANCELED: i32 = -libc::ECANCELED;
/// Of a socket whose records the kernel opens: the first is no data.
#[cfg(feature = "tls")]
const RECORD_FIRST: i32 = -libc::EIO;

/// A timer, and for how long it is to be set.
pub(crate) type Limit = (Pin<&'static WaitNode>, Duration);

impl Socket {
    /// Whether what is received is for somebody.
    #[inline]
    pub(super) fn receives(&self) -> bool {
        self.state.get() == State::Open && !self.has(flag::STALLED)
    }

    /// What bounds the wait of a receive, if anything does.
    #[inline]
    pub(crate) fn recv_limit(&'static self) -> Option<Limit> {
        Some((Pin::static_ref(&self.rx_timer), span(&self.rx_timeout)?))
    }

    /// What bounds the wait of a send, if anything does.
    #[inline]
    pub(crate) fn send_limit(&'static self) -> Option<Limit> {
        Some((Pin::static_ref(&self.tx_timer), span(&self.tx_timeout)?))
    }
}

impl Io {
    /// Takes the next received bytes of a socket.
    #[inline]
    pub(crate) fn receive(&'static self, at: u32) -> Option<Buf> {
        let (index, header) = self.pop_received(self.socket(at))?;
        Some(Buf::adopt(&self.bufs, index, header.start.get(), header.len.get()))
    }

    /// What there is to say of a socket whose queue is empty: its end, why it failed, or nothing;
    /// then the caller is woken when that changes.
    #[inline]
    pub(crate) fn wait_received(
        &self,
        at: u32,
        socket: &'static Socket,
        cx: &Context<'_>,
    ) -> Poll<Result<()>> {
        if socket.rx_error.get() != 0 {
            return Poll::Ready(Err(socket.error_of("receive", socket.rx_error.get())));
        }
        if socket.has(flag::EOF) {
            return Poll::Ready(Ok(()));
        }
        if socket.relay_to.get() != 0 {
            self.relay_over(at); // it was forgotten, and would take what comes
        }
        socket.rx_waiter.register(self.tasks(), cx);
        #[cfg(feature = "tls")]
        socket.records.read_freely();
        self.arm(at, socket);
        Poll::Pending
    }

    /// Wakes all who wait to receive, to see that the worker stops.
    pub(crate) fn wake_receivers(&self) {
        for at in 0..self.fresh.get() {
            self.socket(at).rx_waiter.wake(self.tasks());
        }
    }

    pub(crate) fn set_recv_timeout(&self, at: u32, timeout: Option<Duration>) {
        self.socket(at).rx_timeout.set(millis(timeout));
    }

    pub(crate) fn set_send_timeout(&self, at: u32, timeout: Option<Duration>) {
        self.socket(at).tx_timeout.set(millis(timeout));
    }

    /// Starts receiving, unless it runs, waits for buffers or has ended.
    #[inline]
    pub(super) fn arm(&self, at: u32, socket: &Socket) {
        let open = socket.state.get() == State::Open;
        if open && !self.is_busy(recv_op(at)) && !socket.has(flag::STARVED) {
            #[cfg(feature = "tls")]
            if socket.has(flag::RECORD_IN) {
                return self.arm_record(at, socket);
            }
            self.submit(recv_op(at), Kind::Recv);
        }
    }

    #[inline]
    pub(super) fn recv_sqe(&self, at: u32) -> Sqe {
        #[cfg(feature = "tls")]
        if let Some(exact) = self.exact_sqe(at) {
            return exact;
        }
        let (free, in_ring, held) = self.bufs.count();
        let socket = self.socket(at);
        socket.unset(flag::BUNDLE);
        if !self.features.get().multishot {
            return Sqe::recv(self.file(at), false, 0);
        }
        if self.features.get().recv_cap {
            let relays = socket.relay.get() > 0;
            // One by one when most are held: as many as are fed at once are to find a buffer each.
            let window = match free + in_ring > held {
                _ if relays => self.relay_cap(socket, in_ring),
                true if !relays => self.window.get(),
                _ => 1,
            };
            let cap = window.saturating_mul(self.bufs.size());
            if relays && self.features.get().bundle {
                socket.set(flag::BUNDLE);
                return Sqe::recv_bundle(self.file(at), cap);
            }
            return Sqe::recv(self.file(at), true, cap);
        }
        // Without a cap one socket may empty the ring in one enter: take turns when buffers are few.
        let plenty = free + in_ring > held * 3;
        Sqe::recv(self.file(at), plenty, 0)
    }

    #[inline]
    pub(super) fn recv_completed(
        &self,
        at: u32,
        socket: &'static Socket,
        cqe: Cqe,
        buffer: Option<u32>,
    ) {
        let open = socket.receives();
        match (cqe.result, buffer) {
            (n @ 1.., Some(index)) if open => {
                self.queue_received(at, socket, index, n as u32, cqe.more());
            }
            (_, Some(index)) => {
                self.recv_ended(at, cqe.result, open);
                self.bufs.release(index); // last: it may wake somebody, who may drop the connection
            }
            (result, None) => self.recv_ended(at, result, open),
        }
    }

    /// A bundle: one completion for the buffers from `first` on, in ring order.
    pub(super) fn bundle_completed(&self, at: u32, socket: &'static Socket, cqe: Cqe, first: u16) {
        let bytes = u32::try_from(cqe.result).unwrap_or(0);
        // Looked at for each: who is woken by one may drop the connection before the next.
        let lost =
            self.bufs.taken_bundle(first, bytes, |index, n| match socket.receives() && n > 0 {
                true => self.queue_received(at, socket, index, n, cqe.more()),
                false => self.bufs.release(index),
            });
        let open = socket.receives();
        if lost > 0 && open {
            // The probe found that it tells bundles right: nothing may follow a gap.
            log::error!("{lost} bytes of a bundle are in no buffer of the ring: the receive fails");
            socket.rx_error.set(libc::EIO);
            self.cancel_recv(at);
        }
        if bytes == 0 || !open {
            self.recv_ended(at, cqe.result, open);
        }
    }

    /// Buffers that a connection may have queued.
    #[inline]
    fn rx_window(&self, socket: &Socket) -> u32 {
        match socket.relay.get() {
            0 => self.window.get(),
            window => window.into(),
        }
    }

    pub(super) fn recv_ended(&self, at: u32, result: i32, open: bool) {
        let socket = self.socket(at);
        match result {
            _ if !open => return,
            #[cfg(feature = "tls")]
            RECORD_FIRST if self.begin_record(at, socket) => return,
            0 => socket.set(flag::EOF),
            NO_BUFFER => return self.starve(at),
            // Cancelled for its window, or by a limit of the kernel's: who waits re-arms.
            CANCELED | 1.. => {}
            errno => {
                socket.rx_error.set(-errno);
                #[cfg(feature = "tls")]
                self.fail_sealed_sends(at, socket, -errno);
            }
        }
        socket.rx_waiter.wake(self.tasks());
    }

    #[inline]
    pub(super) fn queue_received(&self, at: u32, socket: &Socket, index: u32, n: u32, more: bool) {
        self.counters().received.add(u64::from(n));
        socket.moved.set(self.now_ms.get());
        if socket.relay_to.get() != 0 && self.pass_on(socket, index, n) {
            if !more {
                socket.rx_waiter.wake(self.tasks()); // to receive on
            }
            return;
        }
        if !self.join_received(socket, index, n) {
            let header = self.bufs.header(index);
            header.start.set(0);
            header.len.set(n);
            header.next.set(0);
            header.account.set(socket.account(at));
            match socket.rx_tail.replace(index + 1) {
                0 => socket.rx_head.set(index + 1),
                tail => self.bufs.header(tail - 1).next.set(index + 1),
            }
            let count = socket.rx_count.get() + 1;
            socket.rx_count.set(count);
            if more && count >= self.rx_window(socket) {
                self.cancel_recv(at);
            }
        }
        socket.rx_waiter.wake(self.tasks());
    }

    /// Copies a small payload behind the last queued one, if there is room, and frees its buffer:
    /// segments of one byte must not hold a buffer each.
    #[inline]
    fn join_received(&self, socket: &Socket, index: u32, n: u32) -> bool {
        let tail = socket.rx_tail.get();
        if tail == 0 || n > self.bufs.size() / 8 {
            return false;
        }
        let last = self.bufs.header(tail - 1);
        let end = last.start.get() + last.len.get();
        if n > self.bufs.size() - end {
            return false;
        }
        // SAFETY: both are in the store; the queue alone holds `tail`, the caller alone `index`, and
        // the kernel has let go of both.
        unsafe {
            let to = self.bufs.addr(tail - 1).add(end as usize);
            core::ptr::copy_nonoverlapping(self.bufs.addr(index), to, n as usize);
        }
        last.len.set(last.len.get() + n);
        self.bufs.release(index);
        true
    }

    #[inline]
    pub(super) fn pop_received(&self, socket: &Socket) -> Option<(u32, &'static Header)> {
        let index = socket.rx_head.get().checked_sub(1)?;
        let header = self.bufs.header(index);
        let next = header.next.replace(0);
        socket.rx_head.set(next);
        if next == 0 {
            socket.rx_tail.set(0);
        }
        socket.rx_count.set(socket.rx_count.get() - 1);
        Some((index, header))
    }

    /// Lets `copy` take received bytes, which tells how many it took; the rest stays in the queue.
    pub(crate) fn receive_with(&self, at: u32, mut copy: impl FnMut(&[u8]) -> usize) -> usize {
        let socket = self.socket(at);
        let mut copied = 0;
        while let Some(index) = socket.rx_head.get().checked_sub(1) {
            let header = self.bufs.header(index);
            let (start, len) = (header.start.get(), header.len.get());
            // SAFETY: the queue alone holds the buffer, whose bytes the kernel wrote and let go of.
            let bytes = unsafe {
                core::slice::from_raw_parts(self.bufs.addr(index).add(start as usize), len as usize)
            };
            let n = copy(bytes);
            copied += n;
            if n < bytes.len() {
                header.start.set(start + n as u32);
                header.len.set(len - n as u32);
                break;
            }
            if let Some((index, _)) = self.pop_received(socket) {
                self.bufs.release(index);
            }
        }
        copied
    }

    /// Copies received bytes behind what is in `into`, which is on the connection's account then.
    pub(crate) fn receive_into(&self, at: u32, into: &mut BufMut) -> usize {
        let copied = self.receive_with(at, |bytes| into.put_some(bytes));
        if copied > 0 {
            self.bufs.header(into.index()).account.set(self.socket(at).account(at));
        }
        copied
    }

    /// Whether received bytes wait, or the end or an error is known.
    #[inline]
    pub(crate) fn has_received(&self, at: u32) -> bool {
        self.socket(at).rx_head.get() != 0
    }

    /// Whether the peer has ended its side, and everything it sent was taken.
    #[cfg(feature = "tls")]
    pub(crate) fn at_end(&self, at: u32) -> bool {
        self.socket(at).has(flag::EOF) && !self.has_received(at)
    }

    /// Whether nothing has arrived, as far as the kernel was asked: a receive that was pushed in an
    /// earlier turn took what there was.
    pub(crate) fn is_quiet(&self, at: u32) -> bool {
        // A control record that is known to be there may have a request behind it.
        !self.has_received(at)
            && self.is_submitted(recv_op(at))
            && !self.socket(at).has(flag::RECORD_IN)
    }

    /// Whether the socket found no buffer and waits in line; its receiver is woken when it is fed.
    pub(crate) fn waits_for_buffer(&self, at: u32) -> bool {
        self.socket(at).has(flag::STARVED)
    }

    pub(super) fn drop_received(&self, at: u32) {
        while let Some((index, _)) = self.pop_received(self.socket(at)) {
            self.bufs.release(index);
        }
        #[cfg(feature = "tls")]
        self.drop_record(self.socket(at));
    }

    // ---- buffers ran out ----

    /// No buffer was left: the socket waits in line, and the ring is made deeper if it can be.
    #[cold]
    fn starve(&self, at: u32) {
        self.counters().enobufs.add(1);
        self.bufs.deepen();
        let socket = self.socket(at);
        // One with data to take receives again when that is taken: in line it would only fill its
        // queue past its window, before those who have nothing.
        if socket.rx_count.get() > 0 {
            return;
        }
        match socket.relay_to.get() {
            0 => self.join_starved(at, socket),
            _ => socket.rx_waiter.wake(self.tasks()), // the relay takes in on, as of a dry ring
        }
    }

    /// Waits in line for receive buffers.
    fn join_starved(&self, at: u32, socket: &Socket) {
        if !socket.has(flag::STARVED) {
            socket.set(flag::STARVED);
            socket.starved_at.set(self.now_ms.get());
            self.starved.push(&self.sockets, at);
        }
    }

    pub(super) fn leave_starved(&self, at: u32) {
        let socket = self.socket(at);
        if socket.has(flag::STARVED) {
            let line = if socket.has(flag::THIRSTY) { &self.thirsty } else { &self.starved };
            line.leave(&self.sockets, at);
            socket.unset(flag::STARVED | flag::THIRSTY);
        }
    }

    /// Fills the ring, and lets as many of those who wait receive again as it has buffers for. Not with
    /// POLL_FIRST: a multishot receive armed so on a socket whose peer has reset it meanwhile never
    /// completes (seen on 6.18).
    #[inline]
    pub(crate) fn feed(&self) {
        self.bufs.refill();
        if self.bufs.in_ring() > 0 {
            self.dry.set(None);
        }
        if !self.has_starved() {
            return;
        }
        let (mut left, mut turn) = (self.bufs.in_ring(), 0);
        while left > 0 {
            let lines = [self.starved.first(), self.thirsty.first()];
            let [first, other] = if turn % 2 == 0 { lines } else { [lines[1], lines[0]] };
            let Some(at) = first.or(other) else {
                return;
            };
            self.leave_starved(at);
            let socket = self.socket(at);
            left -= self.share(socket, left);
            turn += 1;
            self.arm(at, socket);
            if socket.relay_to.get() == 0 {
                // While the pool stops, who waits between requests looks whether one is there.
                socket.rx_waiter.wake(self.tasks());
            }
        }
        if self.bufs.in_ring() == 0 {
            let now = self.now_ms.get();
            self.dry.set(Some((self.dry_since().unwrap_or(now), now)));
            self.quench();
        }
    }

    /// Whether somebody waits in line to receive.
    #[inline]
    pub(super) fn has_starved(&self) -> bool {
        !self.starved.is_empty() || !self.thirsty.is_empty()
    }

    /// Whether somebody waits in line though the ring has buffers: those before were quiet, and took
    /// none.
    #[inline]
    pub(crate) fn can_feed(&self) -> bool {
        self.has_starved() && self.bufs.in_ring() > 0
    }

    /// Whether somebody waits for a buffer.
    #[inline]
    pub(crate) fn is_starved(&self) -> bool {
        self.has_starved() || self.bufs.has_waiters()
    }
}
