//! A connection's outbox: what was pushed and has not gone out, in order.
//!
//! The entries are the iovecs of the gathered send themselves, so sending builds nothing. Those in
//! flight are at the front and stay as they are until the send's completion.

use core::cell::{Cell, UnsafeCell};
use core::ptr;

use crate::buf::Buf;

/// What can be sent without a copy: a pool buffer, or static bytes.
#[derive(Debug)]
pub enum Out {
    /// Bytes of a pool buffer; let go once they are sent.
    Buf(Buf),
    /// Bytes that live for ever; sent as they are.
    Static(&'static [u8]),
}

impl Out {
    /// Bytes to send.
    pub fn len(&self) -> usize {
        match self {
            Self::Buf(buf) => buf.len(),
            Self::Static(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Buf> for Out {
    fn from(buf: Buf) -> Self {
        Self::Buf(buf)
    }
}

impl From<crate::buf::BufMut> for Out {
    fn from(buf: crate::buf::BufMut) -> Self {
        Self::Buf(buf.freeze())
    }
}

impl From<&'static [u8]> for Out {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

impl<const N: usize> From<&'static [u8; N]> for Out {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self::Static(bytes)
    }
}

impl From<&'static str> for Out {
    fn from(text: &'static str) -> Self {
        Self::Static(text.as_bytes())
    }
}

/// One entry: an iovec the kernel reads, as `struct iovec` is laid out.
#[repr(C)]
pub(crate) struct OutEntry {
    pub(super) base: Cell<*const u8>,
    pub(super) len: Cell<usize>,
}

const _: () = assert!(size_of::<OutEntry>() == size_of::<libc::iovec>());

impl OutEntry {
    pub(crate) const fn new() -> Self {
        Self { base: Cell::new(ptr::null()), len: Cell::new(0) }
    }
}

/// The rest of an outbox: which entries are used, and the message header of a gathered send. The
/// entries, and the buffers they hold, are in tables of `outbox` entries a socket.
#[repr(C)] // the counts first: they share a cache line with what else a send touches
pub(crate) struct Outbox {
    pub(super) head: Cell<u16>,
    pub(super) len: Cell<u16>,
    /// How many from the head are in flight; they are contiguous.
    pub(super) in_flight: Cell<u16>,
    /// Written before a gathered send is pushed, read by the kernel until it completes.
    message: UnsafeCell<Message>,
}

/// `struct msghdr` as the kernel has it on 64 bits.
#[repr(C)]
pub(super) struct Message {
    name: usize,
    name_len: u32,
    pub(super) entries: *const OutEntry,
    count: usize,
    pub(super) control: usize,
    pub(super) control_len: usize,
    pub(super) flags: i32,
}

const _: () = assert!(size_of::<Message>() == size_of::<libc::msghdr>());

impl Message {
    pub(super) const fn new() -> Self {
        Self {
            name: 0,
            name_len: 0,
            entries: ptr::null(),
            count: 0,
            control: 0,
            control_len: 0,
            flags: 0,
        }
    }
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self {
            head: Cell::new(0),
            len: Cell::new(0),
            in_flight: Cell::new(0),
            message: UnsafeCell::new(Message::new()),
        }
    }

    /// Describes a gathered send of these entries, and tells where the description is.
    pub(super) fn describe(&self, entries: &[OutEntry]) -> u64 {
        let message = self.message.get();
        // SAFETY: no send of this outbox is in flight (the caller is about to make one), so the
        // kernel does not read it, and this is the only thread that writes.
        unsafe {
            (*message).entries = entries.as_ptr();
            (*message).count = entries.len();
            // A control record's may be there.
            if cfg!(feature = "tls") {
                (*message).control = 0;
                (*message).control_len = 0;
            }
        }
        message as u64
    }

    /// Describes a control record, one entry with its type beside it, and tells where that is.
    #[cfg(feature = "tls")]
    pub(super) fn describe_record(&self, entry: &OutEntry, control: usize, len: usize) -> u64 {
        let described = self.describe(core::slice::from_ref(entry));
        let message = self.message.get();
        // SAFETY: as in `describe`.
        unsafe {
            (*message).control = control;
            (*message).control_len = len;
        }
        described
    }
}
