//! A socket slot: what kio knows of one connection, whoever's hands it is in.

use core::cell::Cell;

use super::list::{Linked, Links};
use super::outbox::Outbox;
use super::{OPS_A_SOCKET, RawAddr};
use crate::error::Error;
use crate::task::{WaitNode, Waiter};

/// A socket's life. Its index is its place in the fixed-file table.
///
/// ```text
///         take           accepted            handed out          handle gone
///  Free ---1---> Opening ----2----> Waiting ------3------> Open ------4------> Closing ---5---> Free
///                   \ failed, withdrawn: 5 (nothing to close)      \ (Opening and Waiting too)
/// ```
///
/// 1 `Io::take_socket`, 2 `Io::accepted`, 3 `Listener` hands it out, or its connect is done,
/// 4 `Io::close`: operations are cancelled, their terminal completions collected, then the slot of
/// the table is emptied, 5 `Io::free_socket`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    Opening,
    Waiting,
    Open,
    Closing,
}

/// What is worth knowing of a direction besides its queue.
pub(super) mod flag {
    /// The peer ended its side.
    pub const EOF: u16 = 1 << 0;
    /// On the list of those who wait for receive buffers.
    pub const STARVED: u16 = 1 << 1;
    /// The table's slot holds a file that must be closed.
    pub const INSTALLED: u16 = 1 << 2;
    /// Our side was shut down.
    pub const WRITE_CLOSED: u16 = 1 << 3;
    /// It was reset because others waited for its buffers.
    pub const STALLED: u16 = 1 << 4;
    /// The last entry of the outbox is a buffer of ours that more bytes may join.
    pub const JOINABLE: u16 = 1 << 6;
    /// The shutdown or connect awaited has ended.
    pub const CONTROL_DONE: u16 = 1 << 7;
    /// The write side is to be shut down once the outbox is empty.
    pub const SHUT_PENDING: u16 = 1 << 5;
    /// The real descriptor was asked for.
    pub const REAL_FD: u16 = 1 << 9;
    /// The kernel seals what is sent: TLS.
    pub const TLS_SEND: u16 = 1 << 8;
    /// The kernel opens what is received.
    #[cfg(feature = "tls")]
    pub const TLS_RECV: u16 = 1 << 10;
    /// A control record is first in the socket, or is held: no data is received before it is taken.
    pub const RECORD_IN: u16 = 1 << 11;
    /// A control record is to be sent.
    pub const RECORD_OUT: u16 = 1 << 12;
    /// close_notify is to be sent once the outbox is empty.
    pub const NOTIFY: u16 = 1 << 13;
    /// The receive in the kernel may fill several buffers a completion.
    pub const BUNDLE: u16 = 1 << 14;
    /// Of the starved, on the list of those who may be lent a buffer.
    pub const THIRSTY: u16 = 1 << 15;
}

/// One socket slot; all zero while free, but for the generation.
///
/// What a request touches comes first, in two cache lines: with hundreds of connections, lines are what
/// a request costs.
#[repr(C, align(64))]
pub(crate) struct Socket {
    pub(super) state: Cell<State>,
    /// Handles that keep the connection open: one, or two halves.
    pub(super) handles: Cell<u8>,
    pub(super) flags: Cell<u16>,
    pub(super) generation: Cell<u32>,

    /// Received buffers, not yet taken: index + 1 of the ends.
    pub(super) rx_head: Cell<u32>,
    pub(super) rx_tail: Cell<u32>,
    pub(super) rx_count: Cell<u32>,
    /// Why receiving failed (an error number), told once the queue is empty.
    pub(super) rx_error: Cell<i32>,
    /// Milliseconds a receive may wait; 0 is for ever.
    pub(super) rx_timeout: Cell<u32>,
    /// Where what is relayed from here goes (+ 1).
    pub(super) relay_to: Cell<u32>,
    pub(super) tx_error: Cell<i32>,
    pub(super) tx_timeout: Cell<u32>,
    /// Milliseconds of the worker's clock when bytes last moved.
    pub(super) moved: Cell<u32>,
    /// The same of sent bytes, or when the send began.
    pub(super) sent_at: Cell<u32>,
    /// A relay found it writable, and nothing was sent since.
    pub(super) tx_ready: Cell<bool>,

    pub(super) rx_waiter: Waiter,
    pub(super) tx_waiter: Waiter,
    pub(super) outbox: Outbox,

    pub(super) rx_timer: WaitNode,
    pub(super) tx_timer: WaitNode,
    pub(super) links: Links,
    /// Index + 1 of the next free slot.
    pub(super) next_free: Cell<u32>,
    /// The same of when it joined the line of those who wait for receive buffers.
    pub(super) starved_at: Cell<u32>,
    /// Scratch of the stall check: buffers on its account.
    pub(super) holds: Cell<u32>,
    /// The buffer (+ 1) that it was lent to receive in; the kernel writes it until the completion.
    pub(super) rx_lent: Cell<u32>,
    /// The listener it was accepted from, while opening.
    pub(super) listener: Cell<u8>,

    /// While relayed from: buffers that it may hold, queued here and on their way out; else 0.
    pub(super) relay: Cell<u16>,
    /// How many of those the next receive may fill.
    pub(super) relay_room: Cell<u16>,
    /// Which connection of the slot `relay_to` it goes to.
    pub(super) relay_generation: Cell<u32>,
    /// Bytes that were handed on.
    pub(super) relayed: Cell<u64>,

    /// What the last control operation gave.
    pub(super) control: Cell<i32>,
    /// A real descriptor + 1 beside the table's slot; 0 is none. The kernel reads it on install.
    pub(super) fd: Cell<i32>,
    /// The kernel reads `fd - 1` from here while it installs.
    pub(super) install: Cell<i32>,
    pub(super) control_waiter: Waiter,
    /// The kernel writes the peer's address here on accept, and reads it on connect.
    pub(super) peer: RawAddr,
    pub(super) local: RawAddr,
    #[cfg(feature = "tls")]
    pub(super) records: super::record::RecordIo,
}

const _: () =
    assert!(core::mem::offset_of!(Socket, outbox) < 128, "the first lines hold the counts");

impl Socket {
    pub(crate) const fn new() -> Self {
        Self {
            state: Cell::new(State::Free),
            flags: Cell::new(0),
            generation: Cell::new(0),
            links: Links::new(),
            next_free: Cell::new(0),
            listener: Cell::new(0),
            rx_head: Cell::new(0),
            rx_tail: Cell::new(0),
            rx_count: Cell::new(0),
            rx_error: Cell::new(0),
            rx_waiter: Waiter::new(),
            rx_timer: WaitNode::new(),
            rx_timeout: Cell::new(0),
            relay: Cell::new(0),
            relay_room: Cell::new(0),
            relay_to: Cell::new(0),
            relay_generation: Cell::new(0),
            relayed: Cell::new(0),
            rx_lent: Cell::new(0),
            outbox: Outbox::new(),
            tx_ready: Cell::new(false),
            tx_error: Cell::new(0),
            tx_waiter: Waiter::new(),
            tx_timer: WaitNode::new(),
            tx_timeout: Cell::new(0),
            handles: Cell::new(0),
            control: Cell::new(0),
            control_waiter: Waiter::new(),
            fd: Cell::new(0),
            install: Cell::new(0),
            moved: Cell::new(0),
            sent_at: Cell::new(0),
            starved_at: Cell::new(0),
            holds: Cell::new(0),
            peer: RawAddr::new(),
            local: RawAddr::new(),
            #[cfg(feature = "tls")]
            records: super::record::RecordIo::new(),
        }
    }

    /// Whether somebody has it: a handle, or the kernel.
    pub(super) fn is_held(&self) -> bool {
        self.state.get() != State::Free || self.handles.get() > 0
    }

    /// A mark for buffers: which connection of which slot, `at`. A worker has fewer than 65,535
    /// sockets, as each counts three times in the completion queue.
    #[inline]
    pub(super) fn account(&self, at: u32) -> u32 {
        self.generation.get() << 16 | (at + 1)
    }

    /// Why `doing` failed.
    pub(super) fn error_of(&self, doing: &'static str, errno: i32) -> Error {
        if self.has(flag::STALLED) { Error::Stalled } else { Error::os(doing, errno) }
    }

    #[inline]
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags.get() & flag != 0
    }

    /// Whether a TLS record other than data is to be sent.
    #[inline]
    pub(super) fn has_record(&self) -> bool {
        cfg!(feature = "tls") && self.has(flag::RECORD_OUT | flag::NOTIFY)
    }

    #[inline]
    pub(super) fn set(&self, flag: u16) {
        self.flags.set(self.flags.get() | flag);
    }

    #[inline]
    pub(super) fn unset(&self, flag: u16) {
        self.flags.set(self.flags.get() & !flag);
    }
}

impl Linked for Socket {
    fn links(&self) -> &Links {
        &self.links
    }
}

/// The op slots of a socket.
#[inline]
pub(super) const fn recv_op(socket: u32) -> u32 {
    socket * OPS_A_SOCKET
}

#[inline]
pub(super) const fn send_op(socket: u32) -> u32 {
    socket * OPS_A_SOCKET + 1
}

#[inline]
pub(super) const fn control_op(socket: u32) -> u32 {
    socket * OPS_A_SOCKET + 2
}
