//! Records that are received: the control records among them, and reads that take no byte too many.

use core::task::{Context, Poll};

use super::{
    CONTROL_LEN, CONTROL_SIZE, Control, DATA, GET_RECORD_TYPE, MSG_EOR, RECORD_MAX, RecordIo,
};
use crate::buf::Buf;
use crate::error::Result;
use crate::op::Io;
use crate::op::outbox::Message;
use crate::op::slot::Kind;
use crate::op::socket::{Socket, flag, recv_op};
use crate::ring::ktls::SOL_TLS;
use crate::ring::{Cqe, Sqe};

impl RecordIo {
    /// Has the kernel put a record's type here, and tells where the message is.
    fn describe_receive(&self) -> u64 {
        let rx = self.rx.get();
        // SAFETY: no receive is in flight (the caller is about to make one), so the kernel does not
        // write here, and this is the only thread that does. No reference is made.
        unsafe {
            (*rx).control = Control::NONE;
            (*rx).message = Message::new();
            // The one buffer is chosen by the kernel: no entries.
            (*rx).message.control = (&raw mut (*rx).control) as usize;
            (*rx).message.control_len = CONTROL_SIZE;
        }
        rx as u64
    }

    /// Of a completed receive: the record's type, where there was one, and whether it ends here.
    fn described(&self) -> (Option<u8>, bool) {
        let rx = self.rx.get();
        // SAFETY: the receive is complete, so the kernel does not write here any more; plain data.
        let (control, flags) =
            unsafe { (core::ptr::read(&raw const (*rx).control), (*rx).message.flags) };
        let is_type = control.len >= CONTROL_LEN
            && control.level == SOL_TLS
            && control.what == GET_RECORD_TYPE;
        (is_type.then_some(control.kind), flags & MSG_EOR != 0)
    }
}

/// A control record that was received, or a part of one.
pub(crate) struct Record {
    /// The content type: 21 an alert, 22 handshake.
    pub(crate) kind: u8,
    /// It is the record's last part.
    pub(crate) end: bool,
    bytes: Option<Buf>,
}

impl Record {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

/// What a wait for received bytes found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrived {
    Data,
    /// A control record, or a part of one.
    Record,
    /// The peer sends nothing more; or the pool stops.
    End,
}

impl Io {
    // ---- exact receives ----

    /// As [`Io::wait_received`], but at most `most` bytes leave the socket. A receive without that
    /// bound, which may run where the stream was read before, is given up first.
    pub(crate) fn wait_exact(
        &self,
        at: u32,
        socket: &'static Socket,
        most: u32,
        cx: &Context<'_>,
    ) -> Poll<Result<()>> {
        if self.is_busy(recv_op(at)) && !socket.records.rx_exact.get() {
            self.cancel_recv(at);
        }
        let waited = self.wait_received(at, socket, cx);
        socket.records.rx_most.set(most); // for the receive that this armed: it is pushed later
        waited
    }

    /// The SQE of a receive that takes no more bytes than were asked for; none where there is no
    /// bound.
    pub(in crate::op) fn exact_sqe(&self, at: u32) -> Option<Sqe> {
        let records = &self.socket(at).records;
        let most = records.rx_most.get();
        records.rx_exact.set(most > 0);
        (most > 0).then(|| Sqe::recv_at_most(self.file(at), most))
    }

    // ---- receiving records ----

    /// What there is of a socket's records: data, a control record behind it, or its end.
    pub(crate) fn wait_arrived(
        &self,
        at: u32,
        socket: &'static Socket,
        cx: &Context<'_>,
    ) -> Poll<Result<Arrived>> {
        if self.has_received(at) {
            return Poll::Ready(Ok(Arrived::Data));
        }
        if socket.records.rx_held.get() {
            return Poll::Ready(Ok(Arrived::Record));
        }
        self.wait_received(at, socket, cx).map_ok(|()| Arrived::End)
    }

    /// 3: takes the control record, or the part of one, that has arrived.
    pub(crate) fn take_record(&'static self, at: u32) -> Option<Record> {
        let socket = self.socket(at);
        let records = &socket.records;
        if !records.rx_held.replace(false) {
            return None;
        }
        let end = records.rx_last.get();
        if end {
            socket.unset(flag::RECORD_IN);
            records.rx_total.set(0);
        }
        let bytes = records
            .rx_part
            .replace(0)
            .checked_sub(1)
            .map(|index| Buf::adopt(&self.bufs, index, 0, self.bufs.header(index).len.get()));
        Some(Record { kind: records.rx_kind.get(), end, bytes })
    }

    /// 1: EIO on a receive means that a control record is first. True where it is read now.
    pub(in crate::op) fn begin_record(&self, at: u32, socket: &Socket) -> bool {
        if !socket.has(flag::TLS_RECV) || socket.has(flag::RECORD_IN) {
            return false;
        }
        socket.set(flag::RECORD_IN);
        self.arm(at, socket);
        true
    }

    /// Receives the control record that is first, once what came of it before was taken.
    #[cold]
    pub(in crate::op) fn arm_record(&self, at: u32, socket: &Socket) {
        if !socket.records.rx_held.get() {
            self.submit(recv_op(at), Kind::RecvRecord);
        }
    }

    pub(in crate::op) fn record_receive_sqe(&self, at: u32) -> Sqe {
        let message = self.socket(at).records.describe_receive();
        // SAFETY: the message is in the socket's static slot, and not written before the completion.
        unsafe { Sqe::recv_msg(self.file(at), message) }
    }

    /// 2: a part of a control record has come, most often all of it.
    pub(in crate::op) fn record_received(
        &self,
        at: u32,
        socket: &'static Socket,
        cqe: Cqe,
        buffer: Option<u32>,
    ) {
        let open = socket.receives();
        let (kind, last) = socket.records.described();
        let n = u32::try_from(cqe.result).unwrap_or(0);
        match (kind, buffer) {
            // It was no control record after all.
            (None | Some(DATA), Some(index)) if open && n > 0 => {
                socket.unset(flag::RECORD_IN);
                self.queue_received(at, socket, index, n, false);
            }
            (Some(kind), buffer) if open && cqe.result >= 0 && kind != DATA => {
                // An empty record has no bytes, whatever it brought.
                let part = buffer.filter(|_| n > 0);
                self.hold_record(at, socket, part, n, kind, last);
                // Last, here and below: it may wake somebody, who may drop the connection.
                if let (Some(index), None) = (buffer, part) {
                    self.bufs.release(index);
                }
            }
            (_, buffer) => {
                self.recv_ended(at, cqe.result, open);
                if let Some(index) = buffer {
                    self.bufs.release(index);
                }
            }
        }
    }

    fn hold_record(
        &self,
        at: u32,
        socket: &Socket,
        part: Option<u32>,
        n: u32,
        kind: u8,
        last: bool,
    ) {
        let records = &socket.records;
        let total = records.rx_total.get() + n;
        records.rx_total.set(total);
        socket.moved.set(self.now_ms.get());
        if let Some(index) = part {
            let header = self.bufs.header(index);
            header.len.set(n);
            header.account.set(socket.account(at));
        }
        records.rx_part.set(part.map_or(0, |index| index + 1));
        records.rx_kind.set(kind);
        records.rx_last.set(last);
        records.rx_held.set(true);
        // The kernel bounds it too; a part without a byte would never end.
        if total > RECORD_MAX || (n == 0 && !last) {
            socket.rx_error.set(libc::EMSGSIZE);
            self.drop_record(socket);
        }
        socket.rx_waiter.wake(self.tasks());
    }

    /// Lets what is held of a record go.
    pub(in crate::op) fn drop_record(&self, socket: &Socket) {
        socket.records.rx_held.set(false);
        if let Some(index) = socket.records.rx_part.replace(0).checked_sub(1) {
            self.bufs.release(index);
        }
    }
}
