//! What the hand-written server keeps a connection: a few flags and a list of buffers to send.
//!
//! ```text
//! accepted --recv armed--> open --EOF, reset or failed send--> ended --last completion--> slot closed
//! ```
//!
//! In echo the buffers of a connection form a list through one array of links, so that a connection
//! needs no memory of its own for it. The first `flying` of the list are in the send in flight; more
//! than one go as one gathered send, whose message lies at the index of its first buffer.

use crate::workload::Scanner;

/// The end of a list, and "no buffer".
const NONE: u16 = u16::MAX;
/// Buffers that one send may gather.
const GATHER: usize = 16;

/// A connection, at the index of its slot.
#[derive(Clone, Copy)]
pub struct Conn {
    /// Replies that http has not handed to the kernel yet.
    pub owed: u32,
    /// Where in the mark between two requests the last read ended.
    pub scanner: Scanner,
    /// A receive is armed.
    pub receiving: bool,
    /// A send is in flight, or about to be submitted in this turn.
    pub sending: bool,
    /// Nothing more will be received.
    pub ended: bool,
    flying: u8,
    first: u16,
    last: u16,
}

impl Default for Conn {
    fn default() -> Self {
        Self {
            owed: 0,
            scanner: Scanner::default(),
            receiving: false,
            sending: false,
            ended: false,
            flying: 0,
            first: NONE,
            last: NONE,
        }
    }
}

impl Conn {
    /// Whether echo has anything left to send.
    #[inline]
    pub fn has_queued(&self) -> bool {
        self.first != NONE
    }
}

/// What to hand to the kernel.
pub enum Batch {
    /// The bytes of one buffer.
    One(u16, u32),
    /// A message of several.
    Many(*const libc::msghdr),
}

/// The links, lengths and messages of all buffers; a buffer is in at most one connection's list.
pub struct Queues {
    links: Vec<Link>,
    messages: Vec<Message>,
}

#[derive(Clone, Copy)]
struct Link {
    next: u16,
    len: u32,
}

/// What a gathered send points to; not moved or written while that is in flight.
#[derive(Clone, Copy)]
struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; GATHER],
}

impl Queues {
    /// For buffers 0 to `count`.
    pub fn new(count: u16) -> Self {
        // SAFETY: all-zero is a valid message: no name, no parts, no control data.
        let message: Message = unsafe { std::mem::zeroed() };
        let count = usize::from(count);
        Self { links: vec![Link { next: NONE, len: 0 }; count], messages: vec![message; count] }
    }

    /// Adds a received buffer to the connection's list.
    #[inline]
    pub fn add(&mut self, conn: &mut Conn, id: u16, len: u32) {
        self.links[usize::from(id)] = Link { next: NONE, len };
        if conn.first == NONE {
            conn.first = id;
        } else {
            self.links[usize::from(conn.last)].next = id;
        }
        conn.last = id;
    }

    /// The next batch of a connection that has buffers queued and none in flight.
    #[inline]
    pub fn batch(&mut self, conn: &mut Conn, addr: impl Fn(u16) -> *mut u8) -> Batch {
        let first = conn.first;
        let link = self.links[usize::from(first)];
        if link.next == NONE {
            conn.flying = 1;
            return Batch::One(first, link.len);
        }
        let message = &mut self.messages[usize::from(first)];
        let (mut id, mut count) = (first, 0);
        while id != NONE && count < GATHER {
            let link = self.links[usize::from(id)];
            message.parts[count] =
                libc::iovec { iov_base: addr(id).cast(), iov_len: link.len as usize };
            (id, count) = (link.next, count + 1);
        }
        conn.flying = count as u8;
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = count;
        Batch::Many(&raw const message.header)
    }

    /// Takes out one buffer of a completed batch; none when all are out.
    #[inline]
    pub fn sent(&mut self, conn: &mut Conn) -> Option<u16> {
        conn.flying = conn.flying.checked_sub(1)?;
        self.drain(conn)
    }

    /// Takes out the first buffer of a connection that has nothing in flight.
    #[inline]
    pub fn drain(&mut self, conn: &mut Conn) -> Option<u16> {
        let id = conn.first;
        if id == NONE {
            return None;
        }
        conn.first = self.links[usize::from(id)].next;
        Some(id)
    }
}
