//! Sending: one operation a connection empties its outbox, in order.
//!
//! What was pushed belongs to the connection: giving a flush up cancels nothing, and what was pushed
//! goes out whole. Only a send timeout cuts a send off; as part of it may have gone out, nothing may
//! follow it.

use core::task::{Context, Poll};

use super::slot::Kind;
use super::socket::{State, flag, send_op};
use super::{Io, Out, OutEntry};
use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::ring::Sqe;

/// In `tx_error`: an earlier send was cut off.
const CUT: i32 = i32::MAX;

impl Io {
    /// Whether the write half still takes bytes.
    #[inline]
    pub(crate) fn writable(&self, at: u32) -> Result<()> {
        let socket = self.socket(at);
        match socket.tx_error.get() {
            _ if socket.state.get() != State::Open => Err(Error::Stopped),
            _ if socket.has(flag::WRITE_CLOSED) => Err(Error::WriteClosed),
            0 => Ok(()),
            CUT => Err(Error::WriteCut),
            errno => Err(self.error_of(at, "send", errno)),
        }
    }

    /// Adds to the outbox; gives it back where that is full.
    #[inline]
    pub(crate) fn push_out(&self, at: u32, out: Out) -> core::result::Result<(), Out> {
        if out.is_empty() {
            return Ok(());
        }
        if self.outbox_of(at).len.get() == self.outbox.get() {
            return Err(out);
        }
        match out {
            Out::Static(bytes) => self.push_entry(at, bytes.as_ptr(), bytes.len(), 0),
            Out::Buf(buf) => {
                assert!(core::ptr::eq(buf.store(), &self.bufs), "a buffer of another worker");
                let (index, bytes, len) = buf.into_parts();
                self.bufs.header(index).account.set(self.account(at));
                self.push_entry(at, bytes, len as usize, index + 1);
            }
        }
        self.socket(at).unset(flag::JOINABLE);
        Ok(())
    }

    /// Adds a buffer of ours that later copies may join.
    pub(crate) fn push_joinable(&self, at: u32, buf: BufMut) -> core::result::Result<(), BufMut> {
        if self.outbox_of(at).len.get() == self.outbox.get() {
            return Err(buf);
        }
        let (index, bytes, len) = buf.freeze().into_parts();
        self.bufs.header(index).account.set(self.account(at));
        self.push_entry(at, bytes, len as usize, index + 1);
        self.socket(at).set(flag::JOINABLE);
        Ok(())
    }

    #[inline]
    fn push_entry(&self, at: u32, base: *const u8, len: usize, buf: u32) {
        let outbox = self.outbox_of(at);
        let place = self.entry_index(at, outbox.len.get());
        let entry = self.entries.at(place);
        entry.base.set(base);
        entry.len.set(len);
        self.entry_bufs.at(place).set(buf);
        outbox.len.set(outbox.len.get() + 1);
    }

    /// The table's index of the `nth` entry from the head.
    #[inline]
    fn entry_index(&self, at: u32, nth: u16) -> usize {
        let size = self.outbox.get();
        let mut place = self.outbox_of(at).head.get() + nth;
        if place >= size {
            place -= size;
        }
        at as usize * usize::from(size) + usize::from(place)
    }

    /// Copies bytes behind the last entry, where that is a buffer of ours with room that is not in
    /// flight. Returns how many.
    pub(crate) fn join_out(&self, at: u32, bytes: &[u8]) -> usize {
        let outbox = self.outbox_of(at);
        let joinable = self.socket(at).has(flag::JOINABLE);
        if !joinable || outbox.len.get() == outbox.in_flight.get() {
            return 0;
        }
        let place = self.entry_index(at, outbox.len.get() - 1);
        let entry = self.entries.at(place);
        let Some(index) = self.entry_bufs.at(place).get().checked_sub(1) else {
            return 0;
        };
        let used = entry.base.get().addr() - self.bufs.addr(index).addr() + entry.len.get();
        let n = bytes.len().min(self.bufs.size() as usize - used);
        // SAFETY: the outbox alone holds the buffer (it was pushed as joinable), no send of it is in
        // flight, and `used + n` is inside it.
        unsafe {
            let to = self.bufs.addr(index).add(used);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
        }
        entry.len.set(entry.len.get() + n);
        n
    }

    /// Sends what was pushed, until all of it is out.
    #[inline]
    pub(crate) fn start_flush(&self, at: u32) {
        let outbox = self.outbox_of(at);
        let socket = self.socket(at);
        let sound = socket.state.get() == State::Open && socket.tx_error.get() == 0;
        if sound && outbox.len.get() > 0 && !self.is_busy(send_op(at)) {
            socket.sent_at.set(self.now_ms.get());
            self.submit(send_op(at), Kind::Send);
        }
    }

    /// Something was pushed that need not go out yet; but for somebody who waits for a buffer.
    #[inline]
    pub(crate) fn flush_if_short(&self, at: u32) {
        if self.bufs.has_waiters() {
            self.start_flush(at);
        }
    }

    /// Waits until the outbox is empty, or has failed.
    #[inline]
    pub(crate) fn poll_flush(&self, at: u32, cx: &Context<'_>) -> Poll<Result<()>> {
        let outbox = self.outbox_of(at);
        // What failed is told once nothing of it is in flight.
        let failed = self.socket(at).tx_error.get() != 0 && !self.is_busy(send_op(at));
        if outbox.len.get() == 0 || failed {
            return Poll::Ready(self.writable(at));
        }
        self.start_flush(at);
        self.wait_out(at, cx);
        Poll::Pending
    }

    /// Is woken when a send has completed.
    pub(crate) fn wait_out(&self, at: u32, cx: &Context<'_>) {
        self.socket(at).tx_waiter.register(self.tasks(), cx);
    }

    /// The SQE of a send: all entries that lie in one piece, one plain or many gathered.
    #[inline]
    pub(super) fn send_sqe(&self, at: u32) -> Sqe {
        let outbox = self.outbox_of(at);
        let size = self.outbox.get();
        let count = outbox.len.get().min(size - outbox.head.get());
        let first = self.entry_index(at, 0);
        let entries: &[OutEntry] = &self.entries.get()[first..first + usize::from(count)];
        outbox.in_flight.set(count);
        match entries {
            [one] if u32::try_from(one.len.get()).is_ok() => {
                // SAFETY: static bytes, or of a buffer that the outbox holds; the entry stays until
                // the send's terminal completion.
                unsafe { Sqe::send(self.file(at), one.base.get() as u64, one.len.get() as u32) }
            }
            // SAFETY: as above; the message is in the worker's statics and is not written again
            // before the completion.
            many => unsafe { Sqe::send_msg(self.file(at), outbox.describe(many)) },
        }
    }

    pub(super) fn send_completed(&self, at: u32, result: i32) {
        let socket = self.socket(at);
        let outbox = self.outbox_of(at);
        outbox.in_flight.set(0);
        if result > 0 {
            self.counters().sent.add(result as u64);
            socket.moved.set(self.now_ms.get());
            self.sent(at, result as usize);
        }
        let open = socket.state.get() == State::Open;
        if !open || socket.tx_error.get() != 0 {
            self.drop_outbox(at);
        } else if result < 0 {
            socket.tx_error.set(-result);
            self.drop_outbox(at);
        } else if outbox.len.get() > 0 {
            // A short send, or more was pushed meanwhile. (Waking may have begun one already.)
            self.start_flush(at);
        } else {
            self.shut_if_pending(at);
        }
        socket.tx_waiter.wake(self.tasks());
    }

    /// Takes `n` sent bytes off the front.
    #[inline]
    fn sent(&self, at: u32, mut n: usize) {
        let outbox = self.outbox_of(at);
        while n > 0 && outbox.len.get() > 0 {
            let entry = self.entries.at(self.entry_index(at, 0));
            if n < entry.len.get() {
                entry.base.set(entry.base.get().wrapping_add(n));
                entry.len.set(entry.len.get() - n);
                return;
            }
            n -= entry.len.get();
            self.pop_entry(at);
        }
    }

    #[inline]
    fn pop_entry(&self, at: u32) {
        let outbox = self.outbox_of(at);
        let place = self.entry_index(at, 0);
        let buf = self.entry_bufs.at(place).replace(0);
        let head = outbox.head.get() + 1;
        outbox.head.set(if head == self.outbox.get() { 0 } else { head });
        outbox.len.set(outbox.len.get() - 1);
        // Last: it may wake somebody, and so run code that looks at this outbox.
        if let Some(index) = buf.checked_sub(1) {
            self.bufs.release(index);
        }
    }

    /// Lets go of everything in the outbox; nothing of it may be in flight.
    pub(super) fn drop_outbox(&self, at: u32) {
        debug_assert!(!self.is_busy(send_op(at)));
        while self.outbox_of(at).len.get() > 0 {
            self.pop_entry(at);
        }
        self.outbox_of(at).head.set(0);
    }

    /// Gives the write half up in the middle, for a send timeout: what is in flight is cancelled,
    /// and later sends are told.
    pub(crate) fn cut(&self, at: u32) {
        self.fail_sends(at, CUT);
    }

    /// Lets no send through any more, and what is left of the outbox go as soon as it may.
    pub(super) fn fail_sends(&self, at: u32, error: i32) {
        if self.socket(at).tx_error.get() == 0 {
            self.socket(at).tx_error.set(error);
        }
        self.cancel(send_op(at));
        if !self.is_busy(send_op(at)) {
            self.drop_outbox(at);
        }
        self.socket(at).tx_waiter.wake(self.tasks());
    }
}
