//! TLS records through the kernel: the types of records beside the bytes of a connection.
//!
//! Data records need nothing of this file: a multishot receive and plain sends carry their bytes. A
//! control record (alert, handshake) at the front of the socket ends a receive with EIO, again and
//! again; then one RECVMSG, with room for the type, takes it, and receiving goes on when it was taken
//! from here. Control records to send go out between the sends of the outbox, by the send's own slot.
//!
//! Who owns the memory:
//!
//! | operation         | the kernel reads or writes        | owner of that memory            | its user gives up          |
//! |-------------------|-----------------------------------|---------------------------------|----------------------------|
//! | receive of a record | a buffer of the provided ring   | the store, then the socket      | nothing: the record waits  |
//! |                   | the message, its type             | the socket slot                 |                            |
//! | send of a record  | the message, its type, its bytes  | the socket slot                 | nothing: it goes out       |
//! | exact receive     | a buffer of the provided ring     | the store, then the socket      | nothing: bytes queue       |

use core::cell::{Cell, UnsafeCell};
use core::task::{Context, Poll};

use super::Io;
use super::outbox::{Message, OutEntry};
use super::slot::Kind;
use super::socket::{Socket, State, control_op, flag, recv_op, send_op};
use crate::buf::Buf;
use crate::error::{Error, Result};
use crate::ring::ktls::{self, Direction, KeyBlock, Keys, Refused, SOL_TLS};
use crate::ring::sys::clear_error;
use crate::ring::{Cqe, Sqe};

/// Most bytes of a control record that is sent: an alert has 2, a key update 5.
const BYTES_MAX: usize = 16;
/// Most bytes of one record that is received: 2^14, and what TLS 1.2 may add.
const RECORD_MAX: u32 = (16 << 10) + 256;
/// Data of one full record.
const DATA_MAX: u64 = 16 << 10;

const DATA: u8 = 23;
const ALERT: u8 = 21;
/// An alert of level warning (1) that says close_notify (0).
static CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// The control message that has a record's type: a `cmsghdr` and one byte, CMSG_SPACE(1).
#[repr(C)]
struct Control {
    len: usize,
    level: i32,
    what: i32,
    kind: u8,
    pad: [u8; 7],
}

const CONTROL_SIZE: usize = size_of::<Control>();
const _: () = assert!(CONTROL_SIZE == 24);
/// CMSG_LEN(1).
const CONTROL_LEN: usize = 17;
const SET_RECORD_TYPE: i32 = 1;
const GET_RECORD_TYPE: i32 = 2;
const MSG_EOR: i32 = 0x80;

impl Control {
    const NONE: Self = Self { len: 0, level: 0, what: 0, kind: 0, pad: [0; 7] };
}

/// What a socket knows of records; all zero while it has none.
///
/// Receiving, by the flags and cells:
///
/// ```text
///           EIO                         completed            taken, its last part
///  Data -----1----> RECORD_IN: due ---------2------> held --------3-------> Data
///                        ^------------------------------/ 3: taken, more parts follow
/// ```
///
/// 1 `Io::recv_ended`, 2 `Io::record_received`, 3 `Io::take_record`. While one is due or held nothing
/// else is armed, so keys that are set between 3 and the next wait meet no receive.
///
/// Sending: RECORD_OUT says that a record is queued or in flight, NOTIFY that close_notify is to be
/// sent once the outbox is empty.
pub(super) struct RecordIo {
    /// Written before a record's receive is pushed, and by the kernel until it completes.
    rx: UnsafeCell<Rx>,
    /// The buffer of what is held, index + 1; an empty record has none.
    rx_part: Cell<u32>,
    rx_kind: Cell<u8>,
    rx_held: Cell<bool>,
    /// What is held is the last part of its record.
    rx_last: Cell<bool>,
    /// Bytes of the record so far.
    rx_total: Cell<u32>,
    /// An exact receive takes at most so many bytes; 0 is no bound.
    rx_most: Cell<u32>,
    /// The receive that runs is an exact one.
    rx_exact: Cell<bool>,

    /// Written while no send is in flight, read by the kernel until it completes.
    tx: UnsafeCell<Tx>,
    /// Records sent under the keys, counted from above.
    sealed: Cell<u64>,
}

struct Rx {
    message: Message,
    control: Control,
}

struct Tx {
    entry: OutEntry,
    control: Control,
    kind: u8,
    len: u8,
    bytes: [u8; BYTES_MAX],
    /// The keys of what follows the record.
    then: KeyBlock,
}

impl RecordIo {
    pub(super) const fn new() -> Self {
        Self {
            rx: UnsafeCell::new(Rx { message: Message::new(), control: Control::NONE }),
            rx_part: Cell::new(0),
            rx_kind: Cell::new(0),
            rx_held: Cell::new(false),
            rx_last: Cell::new(false),
            rx_total: Cell::new(0),
            rx_most: Cell::new(0),
            rx_exact: Cell::new(false),
            tx: UnsafeCell::new(Tx {
                entry: OutEntry::new(),
                control: Control::NONE,
                kind: 0,
                len: 0,
                bytes: [0; BYTES_MAX],
                then: KeyBlock::new(),
            }),
            sealed: Cell::new(0),
        }
    }

    /// The socket is closed: nothing runs any more.
    pub(super) fn clear(&self) {
        self.rx_total.set(0);
        self.rx_most.set(0);
        self.rx_exact.set(false);
        self.sealed.set(0);
    }

    /// The next receive takes what there is.
    #[inline]
    pub(super) fn read_freely(&self) {
        self.rx_most.set(0);
    }

    /// Runs on what is sent, while no record is in flight.
    fn with_tx<R>(&self, run: impl FnOnce(&mut Tx) -> R) -> R {
        // SAFETY: the callers see that the send's slot has no record in the kernel, or that the one
        // it had is complete; `run` comes back to nothing of the worker's, so this is the only
        // reference.
        run(unsafe { &mut *self.tx.get() })
    }

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
#[cfg_attr(not(test), allow(dead_code, reason = "the TLS streams come"))]
pub(crate) struct Record {
    /// The content type: 21 an alert, 22 handshake.
    pub(crate) kind: u8,
    /// It is the record's last part.
    pub(crate) end: bool,
    bytes: Option<Buf>,
}

impl Record {
    #[cfg_attr(not(test), allow(dead_code, reason = "the TLS streams come"))]
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

impl Socket {
    /// Of what is to be sent a control record is first: it comes before data, close_notify after it.
    pub(super) fn record_is_next(&self) -> bool {
        self.has(flag::RECORD_OUT) || self.outbox.len.get() == 0
    }
}

impl Io {
    // ---- set-up ----

    fn tls_fd(&self, at: u32) -> core::result::Result<i32, Refused> {
        match (self.socket(at).state.get(), self.socket(at).fd.get()) {
            (State::Open, 0) => Err(Refused::NoDescriptor),
            (State::Open, fd) => Ok(fd - 1),
            _ => Err(Refused::Stopped),
        }
    }

    /// Puts TLS under the socket; plain bytes pass until keys are set.
    pub(crate) fn use_tls(&self, at: u32) -> core::result::Result<(), Refused> {
        ktls::use_tls(self.tls_fd(at)?)
    }

    /// Gives what is sent its keys, the first or, where the kernel can, the next.
    pub(crate) fn set_send_keys(
        &self,
        at: u32,
        keys: &Keys<'_>,
    ) -> core::result::Result<(), Refused> {
        let socket = self.socket(at);
        if socket.outbox.len.get() > 0 || socket.has_record() || self.is_busy(send_op(at)) {
            return Err(Refused::Unsent);
        }
        ktls::set_keys(self.tls_fd(at)?, Direction::Send, keys)?;
        socket.records.sealed.set(0);
        socket.set(flag::TLS_SEND);
        Ok(())
    }

    /// Gives what is received its keys, the first or, after a key update, the next.
    pub(crate) fn set_recv_keys(
        &self,
        at: u32,
        keys: &Keys<'_>,
    ) -> core::result::Result<(), Refused> {
        let socket = self.socket(at);
        if !socket.has(flag::TLS_RECV) && self.has_read_ahead(at) {
            return Err(Refused::ReadAhead);
        }
        ktls::set_keys(self.tls_fd(at)?, Direction::Recv, keys)?;
        socket.set(flag::TLS_RECV);
        Ok(())
    }

    /// Whether bytes were received that nobody took, or may be at any time.
    pub(crate) fn has_read_ahead(&self, at: u32) -> bool {
        let unbounded = self.is_busy(recv_op(at)) && !self.socket(at).records.rx_exact.get();
        self.has_received(at) || unbounded
    }

    /// Number of the next record to send, as the kernel counts.
    pub(crate) fn send_sequence(&self, at: u32) -> Result<u64> {
        ktls::sequence(self.tls_fd(at)?, Direction::Send)
    }

    /// Records sent under the present keys, counted from above.
    pub(crate) fn sealed(&self, at: u32) -> u64 {
        self.socket(at).records.sealed.get()
    }

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
            self.cancel(recv_op(at));
        }
        let waited = self.wait_received(at, socket, cx);
        socket.records.rx_most.set(most); // for the receive that this armed: it is pushed later
        waited
    }

    /// The SQE of a receive that takes no more bytes than were asked for; none where there is no
    /// bound.
    pub(super) fn exact_sqe(&self, at: u32) -> Option<Sqe> {
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
    pub(super) fn begin_record(&self, at: u32, socket: &Socket) -> bool {
        if !socket.has(flag::TLS_RECV) || socket.has(flag::RECORD_IN) {
            return false;
        }
        socket.set(flag::RECORD_IN);
        self.arm(at, socket);
        true
    }

    /// Receives the control record that is first, once what came of it before was taken.
    #[cold]
    pub(super) fn arm_record(&self, at: u32, socket: &Socket) {
        if !socket.records.rx_held.get() {
            self.submit(recv_op(at), Kind::RecvRecord);
        }
    }

    pub(super) fn record_receive_sqe(&self, at: u32) -> Sqe {
        let message = self.socket(at).records.describe_receive();
        // SAFETY: the message is in the socket's static slot, and not written before the completion.
        unsafe { Sqe::recv_msg(self.file(at), message) }
    }

    /// 2: a part of a control record has come, most often all of it.
    pub(super) fn record_received(
        &self,
        at: u32,
        socket: &'static Socket,
        cqe: Cqe,
        buffer: Option<u32>,
    ) {
        let open = socket.state.get() == State::Open && !socket.has(flag::STALLED);
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
                if let (Some(index), None) = (buffer, part) {
                    self.bufs.release(index);
                }
                self.hold_record(at, socket, part, n, kind, last);
            }
            (_, buffer) => {
                if let Some(index) = buffer {
                    self.bufs.release(index);
                }
                self.recv_ended(at, cqe.result, open);
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
            self.drop_record(socket);
            socket.rx_error.set(libc::EMSGSIZE);
        }
        socket.rx_waiter.wake(self.tasks());
    }

    /// Lets what is held of a record go.
    pub(super) fn drop_record(&self, socket: &Socket) {
        socket.records.rx_held.set(false);
        if let Some(index) = socket.records.rx_part.replace(0).checked_sub(1) {
            self.bufs.release(index);
        }
    }

    // ---- sending records ----

    /// Queues a control record, to go out before the data that is not in flight. `then` are the keys
    /// of what follows it, set when it is out. False where one is queued already.
    pub(crate) fn queue_record(
        &self,
        at: u32,
        kind: u8,
        bytes: &[u8],
        then: Option<&Keys<'_>>,
    ) -> Result<bool> {
        let socket = self.socket(at);
        socket.writable()?;
        if socket.has(flag::RECORD_OUT) {
            return Ok(false);
        }
        if bytes.is_empty() || bytes.len() > BYTES_MAX {
            return Err(Error::Other("a control record to send has 1 to 16 bytes"));
        }
        let described = socket.records.with_tx(|tx| {
            tx.kind = kind;
            tx.len = bytes.len() as u8;
            tx.bytes[..bytes.len()].copy_from_slice(bytes);
            then.is_none_or(|keys| tx.then.write(keys))
        });
        if !described {
            return Err(Refused::NoCipher.into());
        }
        socket.set(flag::RECORD_OUT);
        self.start_send(at, socket);
        Ok(true)
    }

    /// Whether a control record is queued or in flight, close_notify included.
    pub(crate) fn is_sending_record(&self, at: u32) -> bool {
        self.socket(at).has_record()
    }

    /// Whether no record waits to go out, nor close_notify; the caller is woken when one is out.
    pub(crate) fn poll_records_sent(&self, at: u32, cx: &Context<'_>) -> Poll<Result<()>> {
        let socket = self.socket(at);
        if let Some(failed) = self.send_failure(at, socket) {
            return Poll::Ready(Err(failed));
        }
        if !socket.has_record() {
            return Poll::Ready(Ok(()));
        }
        self.flush(at, socket, cx);
        Poll::Pending
    }

    /// Why sending failed, once nothing is in flight.
    fn send_failure(&self, at: u32, socket: &Socket) -> Option<Error> {
        if socket.state.get() != State::Open {
            return Some(Error::Stopped);
        }
        let failed = socket.tx_error.get() != 0 && !self.is_busy(send_op(at));
        failed.then(|| socket.send_error())
    }

    /// Ends the write side: what was pushed goes out, then close_notify where there are keys, then
    /// the peer is told at the socket. All in the background.
    pub(crate) fn end_records(&self, at: u32) -> Result<()> {
        let socket = self.socket(at);
        socket.writable()?;
        socket.set(flag::WRITE_CLOSED | flag::SHUT_PENDING);
        if socket.has(flag::TLS_SEND) {
            socket.set(flag::NOTIFY);
        }
        self.start_send(at, socket);
        self.shut_if_pending(at, socket);
        Ok(())
    }

    /// How that ended; the caller is woken as it goes on.
    pub(crate) fn poll_ended(&self, at: u32, cx: &Context<'_>) -> Poll<Result<()>> {
        let socket = self.socket(at);
        if let Some(failed) = self.send_failure(at, socket) {
            return Poll::Ready(Err(failed));
        }
        if !socket.has(flag::SHUT_PENDING) && !self.is_busy(control_op(at)) {
            return Poll::Ready(match socket.control.get() {
                0.. => Ok(()),
                errno => Err(Error::os("shutdown", -errno)),
            });
        }
        socket.control_waiter.register(self.tasks(), cx);
        socket.tx_waiter.register(self.tasks(), cx);
        Poll::Pending
    }

    pub(super) fn record_send_sqe(&self, at: u32) -> Sqe {
        let socket = self.socket(at);
        let is_notify = !socket.has(flag::RECORD_OUT);
        let message = socket.records.with_tx(|tx| {
            let (kind, bytes) = match is_notify {
                true => (ALERT, &CLOSE_NOTIFY[..]),
                false => (tx.kind, &tx.bytes[..usize::from(tx.len)]),
            };
            tx.entry.base.set(bytes.as_ptr());
            tx.entry.len.set(bytes.len());
            tx.control = Control {
                len: CONTROL_LEN,
                level: SOL_TLS,
                what: SET_RECORD_TYPE,
                kind,
                pad: [0; 7],
            };
            let control = (&raw const tx.control) as usize;
            socket.outbox.describe_record(&tx.entry, control, CONTROL_SIZE)
        });
        // SAFETY: message, type and bytes are in the socket's static slot or for ever, and not
        // written before the completion.
        unsafe { Sqe::send_msg(self.file(at), message) }.in_parts()
    }

    /// A control record is out, or failed.
    pub(super) fn record_sent(&self, at: u32, socket: &'static Socket, result: i32) {
        let was_notify = !socket.has(flag::RECORD_OUT);
        let records = &socket.records;
        let len = if was_notify { CLOSE_NOTIFY.len() } else { records.with_tx(|tx| tx.len.into()) };
        let mut error = match usize::try_from(result) {
            Ok(n) if n == len => 0,
            // Half a record: the kernel takes so few bytes whole, and what else would not be ours.
            Ok(_) => libc::EIO,
            Err(_) => -result,
        };
        if error == 0 {
            records.sealed.set(records.sealed.get() + 1);
            socket.moved.set(self.now_ms.get());
            socket.unset(if was_notify { flag::NOTIFY } else { flag::RECORD_OUT });
            if !was_notify {
                error = self.set_next_keys(at, socket);
            }
        }
        self.send_goes_on(at, socket, error);
    }

    /// After a record that changes keys: sets them. An error number, or 0.
    fn set_next_keys(&self, at: u32, socket: &Socket) -> i32 {
        let fd = self.tls_fd(at);
        let set = socket.records.with_tx(|tx| {
            let fd = fd.ok().filter(|_| !tx.then.is_empty());
            let set = fd.map(|fd| ktls::set_block(fd, Direction::Send, &tx.then));
            tx.then.wipe();
            set
        });
        match set {
            None => return 0,
            Some(Ok(())) => socket.records.sealed.set(0),
            Some(Err(Refused::NoRekey)) => return libc::EBUSY,
            Some(Err(Refused::Os(errno))) => return errno,
            Some(Err(_)) => return libc::EIO,
        }
        0
    }

    /// A receive failed: what is to be sent? On a connection that broke nothing more: once that was
    /// told, the kernel seals on and says that all is well (6.1 to 7.3). After a record that could not be
    /// opened an alert may tell why, and the kernel's error, which would end that send, is cleared.
    pub(super) fn fail_sealed_sends(&self, at: u32, socket: &Socket, errno: i32) {
        let of_record = matches!(
            errno,
            libc::EBADMSG | libc::EMSGSIZE | libc::EINVAL | libc::EKEYEXPIRED | libc::EIO
        );
        if !socket.has(flag::TLS_SEND) {
            return;
        }
        match self.tls_fd(at) {
            Ok(fd) if of_record => clear_error(fd),
            _ => self.fail_sends(at, errno),
        }
    }

    /// Forgets what was to be sent besides data; nothing of it is in flight.
    #[cold]
    pub(super) fn drop_records(&self, socket: &Socket) {
        socket.unset(flag::RECORD_OUT | flag::NOTIFY);
        socket.records.with_tx(|tx| tx.then.wipe());
    }

    /// Counts records of data that was sent.
    pub(super) fn count_sealed(&self, socket: &Socket, bytes: u64) {
        let sealed = &socket.records.sealed;
        sealed.set(sealed.get() + 1 + bytes / DATA_MAX);
    }
}

#[cfg(test)]
impl Io {
    /// As if the kernel had keys, and took the next too.
    pub(super) fn pretend_sealed(&self, at: u32) {
        self.socket(at).set(flag::TLS_SEND | flag::TLS_RECV);
    }

    /// Whether keys lie in the socket's slot.
    pub(super) fn holds_keys(&self, at: u32) -> bool {
        self.socket(at).records.with_tx(|tx| !tx.then.is_empty())
    }
}

/// Writes a record's type as the kernel does, for the receive `sqe`.
#[cfg(test)]
pub(super) fn pretend_received(sqe: &Sqe, kind: u8, last: bool) {
    let rx = sqe.of().1 as *mut Rx;
    // SAFETY: the message of a receive that the test's kernel has.
    unsafe {
        (*rx).control =
            Control { len: CONTROL_LEN, level: SOL_TLS, what: GET_RECORD_TYPE, kind, pad: [0; 7] };
        (*rx).message.flags = if last { MSG_EOR } else { 0 };
    }
}

/// Type and bytes of the control record that `sqe` sends; none where it sends data.
#[cfg(test)]
pub(super) fn sent_record(sqe: &Sqe) -> Option<(u8, &'static [u8])> {
    if sqe.opcode != crate::ring::Opcode::SendMsg {
        return None;
    }
    let message = sqe.of().1 as *const Message;
    // SAFETY: the message of a send that the test's kernel has; of a record it has one entry.
    unsafe {
        let control = ((*message).control as *const Control).as_ref()?;
        let entry = (*message).entry();
        Some((control.kind, core::slice::from_raw_parts(entry.base.get(), entry.len.get())))
    }
}
