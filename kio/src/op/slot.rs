//! One operation's slot.

use core::cell::Cell;

use super::list::{Linked, Links};
use crate::metrics::Op;

/// Op slots of each socket: receive, send and control.
pub(crate) const OPS_A_SOCKET: u32 = 3;
/// Cancels in the kernel at once. The rest waits in the queue, so the sum of completions is bounded.
pub(crate) const CANCELS_MAX: u32 = 64;

/// An operation's life.
///
/// ```text
///         submit            pushed to the ring          terminal completion
///  Free ----1----> Queued ---------2--------> Submitted ---------4---------> Free
///    ^                |                           | 3: cancel
///    |                |                           v
///    +--- 5: withdrawn ---+             Cancelling (queued), Cancelled (pushed) ----4----> Free
/// ```
///
/// 1 [`super::Io::submit`], 2 [`super::Io::next_sqe`], 3 and 5 [`super::Io::cancel`] (an operation
/// that never reached the kernel never does), 4 [`super::Io::complete`]. Only a completion without
/// F_MORE frees a submitted slot: no error of `enter` does, and no future's drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    Queued,
    Submitted,
    Cancelling,
    Cancelled,
}

/// What a slot's operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    None = 0,
    Recv,
    /// Waits until there is something to receive, without a buffer.
    RecvPoll,
    /// One receive of what is there into a buffer that the socket was lent.
    RecvLent,
    Send,
    /// Waits until there is room for what will be sent.
    SendPoll,
    Accept,
    Connect,
    Install,
    Shutdown,
    Close,
    /// Of one control record of TLS, with its type.
    #[cfg(feature = "tls")]
    RecvRecord,
    #[cfg(feature = "tls")]
    SendRecord,
}

impl Kind {
    /// As it is counted.
    #[inline(always)]
    pub(super) const fn counted(self) -> Op {
        match self {
            Self::None => Op::None,
            Self::Recv | Self::RecvPoll | Self::RecvLent => Op::Recv,
            Self::Send | Self::SendPoll => Op::Send,
            Self::Accept => Op::Accept,
            Self::Connect => Op::Connect,
            Self::Install => Op::Install,
            Self::Shutdown => Op::Shutdown,
            Self::Close => Op::Close,
            #[cfg(feature = "tls")]
            Self::RecvRecord => Op::Recv,
            #[cfg(feature = "tls")]
            Self::SendRecord => Op::Send,
        }
    }
}

/// An operation of a socket; all zero but the generation while free.
pub(crate) struct Slot {
    pub(super) state: Cell<State>,
    pub(super) kind: Cell<Kind>,
    /// Which operation of this slot it is; in the user data, so that a stale completion shows.
    pub(super) generation: Cell<u32>,
    links: Links,
}

const _: () = assert!(size_of::<Slot>() <= 64);

impl Slot {
    pub(crate) const fn new() -> Self {
        Self {
            state: Cell::new(State::Free),
            kind: Cell::new(Kind::None),
            generation: Cell::new(0),
            links: Links::new(),
        }
    }
}

impl Slot {
    /// Whether a cancel of it is queued or pushed.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.state.get(), State::Cancelling | State::Cancelled)
    }
}

impl Linked for Slot {
    fn links(&self) -> &Links {
        &self.links
    }
}

/// What a completion's user data says: tag, slot (24 bits), generation (32 bits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tag {
    Op {
        slot: u32,
        generation: u32,
    },
    File {
        flight: u32,
        generation: u32,
    },
    Cancel,
    Wake,
    /// Another worker's message: it has left something to find.
    Message,
    /// The end of a message of this worker's to that one, which only a failure has.
    Sent {
        worker: u32,
    },
    Unknown,
}

const OP: u64 = 1;
const CANCEL: u64 = 2;
const WAKE: u64 = 3;
const FILE: u64 = 4;
const MESSAGE: u64 = 5;
const SENT: u64 = 6;

impl Tag {
    #[inline]
    pub(super) const fn encode(self) -> u64 {
        match self {
            Self::Op { slot, generation } => OP << 56 | (slot as u64) << 32 | generation as u64,
            Self::File { flight, generation } => {
                FILE << 56 | (flight as u64) << 32 | generation as u64
            }
            Self::Cancel => CANCEL << 56,
            Self::Wake => WAKE << 56,
            Self::Message => MESSAGE << 56,
            Self::Sent { worker } => SENT << 56 | worker as u64,
            Self::Unknown => 0,
        }
    }

    #[inline]
    pub(super) const fn decode(user_data: u64) -> Self {
        match user_data >> 56 {
            OP => Self::Op {
                slot: (user_data >> 32) as u32 & 0xff_ffff,
                generation: user_data as u32,
            },
            FILE => Self::File {
                flight: (user_data >> 32) as u32 & 0xff_ffff,
                generation: user_data as u32,
            },
            CANCEL => Self::Cancel,
            WAKE => Self::Wake,
            MESSAGE => Self::Message,
            SENT => Self::Sent { worker: user_data as u32 },
            _ => Self::Unknown,
        }
    }
}
