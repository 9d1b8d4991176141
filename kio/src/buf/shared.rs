//! `Buf`: bytes of a pool buffer that one or many may read.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Bound, Deref, RangeBounds};
use core::ptr::NonNull;

use super::{BufMut, Store};
use crate::task::Home;

/// Bytes of a buffer of this worker's store, read-only. Dropped, it lets the buffer go; the last
/// holder gives it back.
///
/// Cloning and slicing share the buffer: no byte is copied, and the buffer stays in use until the
/// last of them is gone.
pub struct Buf {
    store: Home<Store>,
    bytes: NonNull<u8>,
    len: u32,
    index: u32,
}

impl Buf {
    /// Takes over one hold on the buffer, for these bytes of it.
    ///
    /// The caller owns that hold, and the bytes are written and will not be while it lasts.
    #[inline]
    pub(crate) fn adopt(store: &'static Store, index: u32, start: u32, len: u32) -> Self {
        debug_assert!(start + len <= store.size());
        // SAFETY: the store's memory is not at null, nor is anything inside it.
        let bytes =
            unsafe { NonNull::new_unchecked(store.addr(index).wrapping_add(start as usize)) };
        Self { store: Home::new(store), bytes, len, index }
    }

    /// Gives the hold up to the caller: the buffer's index, and the bytes.
    #[inline]
    pub(crate) fn into_parts(self) -> (u32, *const u8, u32) {
        let this = ManuallyDrop::new(self);
        (this.index, this.bytes.as_ptr(), this.len)
    }

    pub(crate) fn store(&self) -> &'static Store {
        self.store.get()
    }

    /// A part of these bytes, sharing the buffer.
    ///
    /// # Panics
    /// Where the range is out of bounds, as slicing does, or the worker has stopped.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => n + 1,
            Bound::Excluded(&n) => n,
            Bound::Unbounded => self.len(),
        };
        let bytes = NonNull::from(&self[start..end]).cast();
        assert!(self.is_live(), "a buffer was shared after its worker had stopped");
        self.store.hold(self.index);
        Self { store: self.store, bytes, len: (end - start) as u32, index: self.index }
    }

    /// Leaves the first `n` bytes out of view. Nothing is copied.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn advance(&mut self, n: usize) {
        self.bytes = NonNull::from(&self[n..]).cast();
        self.len -= n as u32;
    }

    /// Keeps the first `n` bytes; does nothing where there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.len = n.min(self.len()) as u32;
    }

    /// The buffer to write in, with these bytes in it, if nobody else holds it.
    pub fn try_mut(self) -> Result<BufMut, Self> {
        if !self.is_live() || self.store.header(self.index).holders.get() != 1 {
            return Err(self);
        }
        let start = self.bytes.as_ptr().addr() - self.store.addr(self.index).addr();
        let store = self.store.get();
        let (index, _, len) = self.into_parts();
        Ok(BufMut::adopt(store, index, start as u32, len))
    }

    fn is_live(&self) -> bool {
        self.store.tasks.get().is_some_and(|tasks| tasks.owner.is_current())
    }
}

impl Deref for Buf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: this handle holds the buffer, so nobody writes these bytes, which were written
        // before it was made; the memory is static.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr(), self.len as usize) }
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for Buf {
    fn clone(&self) -> Self {
        self.slice(..)
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        if self.is_live() {
            self.store.release(self.index);
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len)
    }
}
