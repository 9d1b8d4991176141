//! Sending: one operation a connection empties its outbox, in order.
//!
//! What was pushed belongs to the connection: giving a flush up cancels nothing, and what was pushed
//! goes out whole. Only a send timeout cuts a send off; as part of it may have gone out, nothing may
//! follow it.

use core::task::Context;

use super::slot::Kind;
use super::socket::{Socket, State, flag, send_op};
use super::{Io, Out, OutEntry};
use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::ring::Sqe;

/// In `tx_error`: an earlier send was cut off.
const CUT: i32 = i32::MAX;

impl Socket {
    /// Whether the write half still takes bytes.
    #[inline]
    pub(crate) fn writable(&self) -> Result<()> {
        let open = self.state.get() == State::Open && !self.has(flag::WRITE_CLOSED);
        if open && self.tx_error.get() == 0 { Ok(()) } else { Err(self.refusal()) }
    }

    #[cold]
    #[inline(never)]
    fn refusal(&self) -> Error {
        match self.tx_error.get() {
            _ if self.state.get() != State::Open => Error::Stopped,
            _ if self.has(flag::WRITE_CLOSED) => Error::WriteClosed,
            _ => self.send_error(),
        }
    }

    /// Why an earlier send failed.
    pub(super) fn send_error(&self) -> Error {
        match self.tx_error.get() {
            CUT => Error::WriteCut,
            errno => self.error_of("send", errno),
        }
    }
}

impl Io {
    /// Adds to the outbox; gives it back where that is full.
    #[inline]
    pub(crate) fn push_out(
        &self,
        at: u32,
        socket: &Socket,
        out: Out,
    ) -> core::result::Result<(), Out> {
        if out.is_empty() {
            return Ok(());
        }
        if socket.outbox.len.get() == self.outbox.get() {
            return Err(out);
        }
        match out {
            Out::Static(bytes) => self.push_entry(at, socket, bytes.as_ptr(), bytes.len(), 0),
            Out::Buf(buf) => {
                assert!(core::ptr::eq(buf.store(), &self.bufs), "a buffer of another worker");
                let (index, bytes, len) = buf.into_parts();
                self.bufs.header(index).account.set(socket.account(at));
                self.push_entry(at, socket, bytes, len as usize, index + 1);
            }
        }
        socket.unset(flag::JOINABLE);
        Ok(())
    }

    /// Adds a buffer of ours that later copies may join.
    pub(crate) fn push_joinable(&self, at: u32, buf: BufMut) -> core::result::Result<(), BufMut> {
        let socket = self.socket(at);
        if socket.outbox.len.get() == self.outbox.get() {
            return Err(buf);
        }
        let (index, bytes, len) = buf.freeze().into_parts();
        self.bufs.header(index).account.set(socket.account(at));
        self.push_entry(at, socket, bytes, len as usize, index + 1);
        socket.set(flag::JOINABLE);
        Ok(())
    }

    #[inline]
    pub(super) fn push_entry(
        &self,
        at: u32,
        socket: &Socket,
        base: *const u8,
        len: usize,
        buf: u32,
    ) {
        let outbox = &socket.outbox;
        let place = self.entry_index(at, socket, outbox.len.get());
        let entry = self.entries.at(place);
        entry.base.set(base);
        entry.len.set(len);
        self.entry_bufs.at(place).set(buf);
        outbox.len.set(outbox.len.get() + 1);
    }

    /// The table's index of the `nth` entry from the head.
    #[inline]
    fn entry_index(&self, at: u32, socket: &Socket, nth: u16) -> usize {
        let size = self.outbox.get();
        let mut place = socket.outbox.head.get() + nth;
        if place >= size {
            place -= size;
        }
        at as usize * usize::from(size) + usize::from(place)
    }

    /// Copies bytes behind the last entry, where that is a buffer of ours with room that is not in
    /// flight. Returns how many.
    pub(crate) fn join_out(&self, at: u32, bytes: &[u8]) -> usize {
        let socket = self.socket(at);
        let outbox = &socket.outbox;
        if !socket.has(flag::JOINABLE) || outbox.len.get() == outbox.in_flight.get() {
            return 0;
        }
        let place = self.entry_index(at, socket, outbox.len.get() - 1);
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
    pub(crate) fn start_flush(&self, at: u32) {
        self.start_send(at, self.socket(at));
    }

    #[inline]
    pub(super) fn start_send(&self, at: u32, socket: &Socket) {
        let sound = socket.state.get() == State::Open && socket.tx_error.get() == 0;
        let any = socket.outbox.len.get() > 0 || socket.has_record();
        if sound && any && !self.is_busy(send_op(at)) {
            socket.sent_at.set(self.now_ms.get());
            socket.tx_ready.set(false);
            self.submit(send_op(at), Self::next_send(socket));
        }
    }

    /// What the send's slot does next.
    #[inline]
    fn next_send(socket: &Socket) -> Kind {
        #[cfg(feature = "tls")]
        if socket.has_record() && socket.record_is_next() {
            return Kind::SendRecord;
        }
        let _ = socket;
        Kind::Send
    }

    /// Something was pushed that need not go out yet; but for somebody who waits for a buffer.
    #[inline]
    pub(crate) fn flush_if_short(&self, at: u32) {
        if self.bufs.has_waiters() {
            self.start_flush(at);
        }
    }

    /// How sending went, once the outbox is empty or has failed.
    #[inline]
    pub(crate) fn flushed(&self, at: u32, socket: &Socket) -> Option<Result<()>> {
        // What failed is told once nothing of it is in flight.
        let over = socket.outbox.len.get() == 0
            || (socket.tx_error.get() != 0 && !self.is_busy(send_op(at)));
        over.then(|| socket.writable())
    }

    /// Sends what is in the outbox; the caller is woken when a send has completed.
    #[inline]
    pub(crate) fn flush(&self, at: u32, socket: &Socket, cx: &Context<'_>) {
        self.start_send(at, socket);
        socket.tx_waiter.register(self.tasks(), cx);
    }

    /// The SQE of a send: all entries that lie in one piece, one plain or many gathered.
    #[inline]
    pub(super) fn send_sqe(&self, at: u32) -> Sqe {
        let socket = self.socket(at);
        let outbox = &socket.outbox;
        let size = self.outbox.get();
        let count = outbox.len.get().min(size - outbox.head.get());
        let first = self.entry_index(at, socket, 0);
        outbox.in_flight.set(count);
        let one = self.entries.at(first);
        let sqe = if count == 1 && u32::try_from(one.len.get()).is_ok() {
            // SAFETY: static bytes, or of a buffer that the outbox holds; the entry stays until
            // the send's terminal completion.
            unsafe { Sqe::send(self.file(at), one.base.get() as u64, one.len.get() as u32) }
        } else {
            let many: &[OutEntry] = &self.entries.get()[first..first + usize::from(count)];
            // SAFETY: as above; the message is in the worker's statics and is not written again
            // before the completion.
            unsafe { Sqe::send_msg(self.file(at), outbox.describe(many)) }
        };
        // Sealed, the kernel refuses to carry a short send on (MSG_WAITALL).
        if cfg!(feature = "tls") && socket.has(flag::TLS_SEND) { sqe.in_parts() } else { sqe }
    }

    #[inline]
    pub(super) fn send_completed(&self, at: u32, socket: &'static Socket, result: i32) {
        let outbox = &socket.outbox;
        outbox.in_flight.set(0);
        if result > 0 {
            self.counters().sent.add(result as u64);
            socket.moved.set(self.now_ms.get());
            self.sent(at, socket, result as usize);
            #[cfg(feature = "tls")]
            if socket.has(flag::TLS_SEND) {
                self.count_sealed(socket, result as u64);
            }
        }
        self.send_goes_on(at, socket, if result < 0 { -result } else { 0 });
    }

    /// A send has ended, well or with that error: what is next.
    #[inline]
    pub(super) fn send_goes_on(&self, at: u32, socket: &'static Socket, error: i32) {
        let open = socket.state.get() == State::Open;
        if !open || socket.tx_error.get() != 0 {
            self.drop_outbox(at);
        } else if error != 0 {
            socket.tx_error.set(error);
            self.drop_outbox(at);
        } else if socket.outbox.len.get() > 0 || socket.has_record() {
            // A short send, or more was pushed meanwhile. (Waking may have begun one already.)
            self.start_send(at, socket);
        } else {
            self.shut_if_pending(at, socket);
        }
        socket.tx_waiter.wake(self.tasks());
    }

    /// Takes `n` sent bytes off the front: mostly one entry.
    #[inline]
    fn sent(&self, at: u32, socket: &'static Socket, n: usize) {
        let more = self.sent_of_first(at, socket, n);
        if more > 0 {
            self.sent_of_rest(at, socket, more);
        }
    }

    #[inline(never)]
    fn sent_of_rest(&self, at: u32, socket: &'static Socket, mut n: usize) {
        while n > 0 {
            n = self.sent_of_first(at, socket, n);
        }
    }

    /// Takes sent bytes off the first entry, and the entry with its last. Returns how many are of
    /// those behind it.
    #[inline]
    fn sent_of_first(&self, at: u32, socket: &'static Socket, n: usize) -> usize {
        if socket.outbox.len.get() == 0 {
            return 0; // who was woken by a buffer let go dropped the rest
        }
        let entry = self.entries.at(self.entry_index(at, socket, 0));
        let len = entry.len.get();
        if n < len {
            entry.base.set(entry.base.get().wrapping_add(n));
            entry.len.set(len - n);
            return 0;
        }
        self.pop_entry(at, socket);
        n - len
    }

    #[inline]
    fn pop_entry(&self, at: u32, socket: &Socket) {
        let outbox = &socket.outbox;
        let place = self.entry_index(at, socket, 0);
        let buf = self.entry_bufs.at(place).replace(0);
        let head = outbox.head.get() + 1;
        outbox.len.set(outbox.len.get() - 1);
        // An empty one begins at its first entry, for the next send to be in one piece.
        let wraps = head == self.outbox.get() || outbox.len.get() == 0;
        outbox.head.set(if wraps { 0 } else { head });
        // Last: it may wake somebody, and so run code that looks at this outbox.
        if let Some(index) = buf.checked_sub(1) {
            self.bufs.release(index);
        }
    }

    /// Lets go of everything in the outbox; nothing of it may be in flight.
    pub(super) fn drop_outbox(&self, at: u32) {
        debug_assert!(!self.is_busy(send_op(at)));
        let socket = self.socket(at);
        while socket.outbox.len.get() > 0 {
            self.pop_entry(at, socket);
        }
        socket.outbox.head.set(0);
        #[cfg(feature = "tls")]
        if socket.has_record() {
            self.drop_records(socket);
        }
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
