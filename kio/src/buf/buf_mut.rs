//! `BufMut`: a pool buffer that one may write.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use super::{Buf, Store};
use crate::task::Home;

/// A buffer of this worker's store that nobody else holds: bytes are added at its end, taken from
/// its front, and shared once frozen. Its view is `start..end` of the buffer.
pub struct BufMut {
    store: Home<Store>,
    index: u32,
    start: u32,
    end: u32,
}

/// What a [`BufMut`] was of.
pub(crate) struct View {
    pub(crate) index: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// The bytes do not fit the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes do not fit the buffer")
    }
}

impl core::error::Error for NoRoom {}

impl From<NoRoom> for crate::Error {
    fn from(_: NoRoom) -> Self {
        Self::Other("the bytes do not fit the buffer")
    }
}

impl BufMut {
    /// An empty buffer, if one is free.
    #[inline]
    pub(crate) fn take(store: &'static Store) -> Option<Self> {
        Some(Self::adopt(store, store.take()?, 0, 0))
    }

    /// Takes over the only hold on a buffer, of which these bytes are written.
    #[inline]
    pub(crate) fn adopt(store: &'static Store, index: u32, start: u32, len: u32) -> Self {
        Self { store: Home::new(store), index, start, end: start + len }
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Gives the hold up to the caller: which buffer, and what of it is in view.
    #[inline]
    pub(crate) fn into_parts(self) -> View {
        let this = ManuallyDrop::new(self);
        View { index: this.index, start: this.start, end: this.end }
    }

    pub(crate) fn store(&self) -> &'static Store {
        self.store.get()
    }

    /// How many bytes the buffer holds in all.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.store.size() as usize
    }

    /// How many bytes can be added at the end. [`BufMut::compact`] may make more room.
    #[inline]
    pub fn spare(&self) -> usize {
        (self.store.size() - self.end) as usize
    }

    /// Adds the bytes, all or none.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        if bytes.len() > self.spare() {
            return Err(NoRoom);
        }
        self.put_some(bytes);
        Ok(())
    }

    /// Adds as many of the bytes as fit, and tells how many.
    #[inline]
    pub fn put_some(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.spare());
        // SAFETY: `end + n` is inside the buffer, which only this handle holds, so `bytes` cannot
        // overlap it.
        unsafe {
            let to = self.store.addr(self.index).add(self.end as usize);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
        }
        self.end += n as u32;
        n
    }

    /// The bytes in view, and the room behind them to be written; [`BufMut::fill`] then takes what
    /// was into view.
    #[cfg(feature = "tls")]
    pub(crate) fn parts_mut(&mut self) -> (&mut [u8], &mut [u8]) {
        let from = self.store.addr(self.index).wrapping_add(self.start as usize);
        let whole = (self.store.size() - self.start) as usize;
        let len = self.len();
        // SAFETY: from `start` on it is inside the buffer, which only this handle holds. The room
        // may never have been written: it is in .bss, and those who are lent it write before they read.
        unsafe { core::slice::from_raw_parts_mut(from, whole) }.split_at_mut(len)
    }

    /// Takes the first `n` bytes of the room at the end into view.
    #[cfg(feature = "tls")]
    pub(crate) fn fill(&mut self, n: usize) {
        assert!(n <= self.spare(), "filled {n} bytes of {}", self.spare());
        self.end += n as u32;
    }

    /// Takes the first `n` bytes off the front.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consumed {n} bytes of {}", self.len());
        self.start += n as u32;
        if self.start == self.end {
            self.clear();
        }
    }

    /// Leaves the first `n` bytes of an empty buffer free.
    pub(crate) fn begin_at(&mut self, n: usize) {
        let at = (n as u32).min(self.store.size());
        (self.start, self.end) = (at, at);
    }

    /// Moves what is left to the buffer's begin, so that all its room is at the end. Copies
    /// `len()` bytes where anything was consumed.
    pub fn compact(&mut self) {
        if self.start > 0 {
            let base = self.store.addr(self.index);
            // SAFETY: both ranges are inside the buffer; `copy` allows them to overlap.
            unsafe { core::ptr::copy(base.add(self.start as usize), base, self.len()) };
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Keeps the first `n` bytes; does nothing where there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.end = self.start + n.min(self.len()) as u32;
    }

    /// Empties it.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Ends the writing: the bytes can be shared and sent from now on.
    #[inline]
    pub fn freeze(self) -> Buf {
        let this = ManuallyDrop::new(self);
        Buf::adopt(this.store.get(), this.index, this.start, this.end - this.start)
    }

    fn is_live(&self) -> bool {
        self.store.tasks.get().is_some_and(|tasks| tasks.owner.is_current())
    }
}

impl Deref for BufMut {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes in view were written through this handle or before it was made, and
        // only it holds the buffer.
        unsafe {
            let from = self.store.addr(self.index).add(self.start as usize);
            core::slice::from_raw_parts(from, (self.end - self.start) as usize)
        }
    }
}

impl DerefMut for BufMut {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the handle is borrowed for writing.
        unsafe {
            let from = self.store.addr(self.index).add(self.start as usize);
            core::slice::from_raw_parts_mut(from, (self.end - self.start) as usize)
        }
    }
}

impl fmt::Write for BufMut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes()).map_err(|NoRoom| fmt::Error)
    }
}

impl Drop for BufMut {
    fn drop(&mut self) {
        if self.is_live() {
            self.store.release(self.index);
        }
    }
}

impl fmt::Debug for BufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufMut({} of {} bytes)", self.len(), self.capacity())
    }
}
