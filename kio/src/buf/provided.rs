//! The provided-buffer ring: where the kernel takes receive buffers from.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicU16, Ordering};

use crate::task::Part;

/// One entry, `struct io_uring_buf`. The first one's `tail` is the ring's.
#[repr(C)]
struct Entry {
    addr: u64,
    len: u32,
    id: u16,
    tail: AtomicU16,
}

pub(crate) const ENTRY_SIZE: usize = 16;
const _: () = assert!(size_of::<Entry>() == ENTRY_SIZE);

/// The worker's side of the ring: it writes entries and moves the tail; the kernel reads.
pub(super) struct Provided {
    entries: Cell<*mut Entry>,
    mask: Cell<u16>,
    tail: Cell<u16>,
}

impl Provided {
    pub(super) const fn new() -> Self {
        Self { entries: Cell::new(ptr::null_mut()), mask: Cell::new(0), tail: Cell::new(0) }
    }

    /// Takes the memory of so many entries over, a power of two.
    pub(super) fn set_up(&self, memory: Part, entries: u16) {
        assert!(entries.is_power_of_two() && usize::from(entries) * ENTRY_SIZE <= memory.size());
        self.entries.set(memory.start().cast());
        self.mask.set(entries - 1);
        self.tail.set(0);
        // SAFETY: the part holds at least one entry, page-aligned, and nobody else writes it.
        unsafe { (*self.entries.get()).tail.store(0, Ordering::Release) };
    }

    /// Writes an entry and tells its place; the kernel sees it after [`Provided::publish`]. There is room, since the
    /// ring has as many entries as the store has buffers.
    pub(super) fn post(&self, addr: *mut u8, len: u32, id: u16) -> u16 {
        let tail = self.tail.get();
        // SAFETY: the index is masked, and the kernel reads entries before the published tail only.
        // Field by field: the first entry's last word is the tail.
        unsafe {
            let entry = self.entries.get().add(usize::from(tail & self.mask.get()));
            (&raw mut (*entry).addr).write(addr as u64);
            (&raw mut (*entry).len).write(len);
            (&raw mut (*entry).id).write(id);
        }
        self.tail.set(tail.wrapping_add(1));
        tail
    }

    /// The buffer of a place, and how many bytes a receive may have put in it: the kernel shortens an
    /// entry in which the cap of a receive ends. Good until the place is written again, a round of the
    /// ring later.
    pub(super) fn at(&self, place: u16) -> (u16, u32) {
        // SAFETY: the index is masked, and all entries are initialised (the memory was zero). Read
        // once, as the kernel may write `len`.
        unsafe {
            let entry = self.entries.get().add(usize::from(place & self.mask.get()));
            ((&raw const (*entry).id).read(), (&raw const (*entry).len).read_volatile())
        }
    }

    /// Shows the kernel what was posted.
    pub(super) fn publish(&self) {
        // SAFETY: set up; the kernel reads the tail with acquire.
        unsafe { (*self.entries.get()).tail.store(self.tail.get(), Ordering::Release) };
    }
}
