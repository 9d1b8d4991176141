//! A provided buffer ring in user memory, first in, first out.
//!
//! The kernel takes buffers at the head; `give` puts one back at the tail; `publish` shows the tail to
//! the kernel, once a turn. Entries are written from (base + id x SIZE, SIZE) only.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::ring::Ring;

/// The one buffer group of a ring.
pub const GROUP: u16 = 0;

/// Buffers of one size, and the ring through which the kernel takes them.
pub struct BufRing {
    entries: Mapping,
    memory: Mapping,
    count: u16,
    size: u32,
    tail: u16,
    /// Buffers whose completion was seen and that were not given back.
    out: u16,
}

impl BufRing {
    /// Maps `count` (a power of two) buffers of `size` bytes, registers them and hands all to the kernel.
    pub fn new(ring: &Ring<'_>, count: u16, size: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * size as usize)?;
        // SAFETY: the mapping is page aligned, `count` entries long, and outlives the ring: both
        // users of this type hold it beside the ring until the process or the run ends.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.base.as_ptr() as u64,
                count,
                GROUP,
                0,
            )
        }?;
        let mut bufs = Self { entries, memory, count, size, tail: 0, out: count };
        (0..count).for_each(|id| bufs.give(id));
        bufs.publish();
        Ok(bufs)
    }

    /// How many buffers the kernel has, or will have after `publish`.
    #[inline]
    pub fn in_ring(&self) -> u16 {
        self.count - self.out
    }

    /// Notes that a completion brought a buffer.
    #[inline]
    pub fn take(&mut self) {
        self.out += 1;
    }

    /// Where buffer `id` starts.
    #[inline]
    pub fn addr(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count);
        // SAFETY: `id` is below `count`, so the offset is inside the mapping.
        unsafe { self.memory.base.as_ptr().add(usize::from(id) * self.size as usize) }
    }

    /// The first `len` bytes of buffer `id`, which the kernel has filled and no longer owns.
    #[inline]
    pub fn bytes(&self, id: u16, len: usize) -> &[u8] {
        debug_assert!(len <= self.size as usize);
        // SAFETY: inside the mapping, zeroed at start, and the buffer is out of the ring until `give`,
        // which takes `&mut self` and so ends this borrow.
        unsafe { std::slice::from_raw_parts(self.addr(id), len) }
    }

    /// Puts buffer `id` back at the tail; the kernel sees it after `publish`.
    #[inline]
    pub fn give(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.count - 1));
        let addr = self.addr(id) as u64;
        let base = self.entries.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `at` is below `count`, and the kernel reads no entry at or past the published tail.
        // The tail shares the first entry's reserved field, which the three setters leave alone.
        let entry = unsafe { &mut *base.add(at) };
        entry.set_addr(addr);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.out -= 1;
    }

    /// Shows the kernel what was given back.
    #[inline]
    pub fn publish(&self) {
        let base = self.entries.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `base` is the address of the first entry of a registered ring.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: aligned, inside the mapping, and written by this thread only.
        unsafe { &*tail.cast::<AtomicU16>() }.store(self.tail, Ordering::Release);
    }
}

/// Zeroed anonymous memory, unmapped on drop.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing else.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        Ok(Self { base: NonNull::new(base.cast()).expect("mmap never returns null"), len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
