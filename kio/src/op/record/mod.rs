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

mod recv;
mod send;

use core::cell::{Cell, UnsafeCell};

use super::Io;
use super::outbox::{Message, OutEntry};
use super::socket::{State, flag, recv_op, send_op};
use crate::error::Result;
use crate::ring::ktls::{self, Direction, KeyBlock, Keys, Refused};

pub(crate) use recv::{Arrived, Record};

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
}

impl Io {
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
}

/// What a test's kernel writes and reads, and what a test may look at.
#[cfg(test)]
pub(super) mod pretend;
