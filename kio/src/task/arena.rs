//! Arenas: the declared slots of one kind of task.

use core::any::TypeId;
use core::cell::Cell;

use super::WaitList;
use crate::metrics::{Gauge, Usage};

/// One line of `tasks`, as `pool!` writes it.
#[derive(Clone, Copy, Debug)]
pub struct TaskDecl {
    /// The task's name, for errors and counts.
    pub name: &'static str,
    /// How many may live on one worker.
    pub count: u32,
    /// Bytes of a slot: the larger of the future and its output.
    pub size: usize,
    /// Alignment of a slot.
    pub align: usize,
    /// The future's type; `None` for the arenas that take any.
    pub id: Option<TypeId>,
}

/// Where the bodies of an arena begin when what is before it ends at `offset`, and how far apart
/// they are.
pub(crate) const fn place(offset: usize, decl: &TaskDecl) -> (usize, usize) {
    let align = if decl.align == 0 { 1 } else { decl.align };
    (offset.next_multiple_of(align), decl.size.next_multiple_of(align))
}

/// The slots of one declared task on one worker.
pub(crate) struct Arena {
    pub(super) decl: Cell<Option<&'static TaskDecl>>,
    /// Where the first body is.
    pub(super) base: Cell<*mut u8>,
    /// Bytes from one body to the next.
    pub(super) stride: Cell<usize>,
    /// Index of the first header.
    pub(super) first: Cell<u32>,
    /// Index + 1 of a free slot that was used before.
    pub(super) free: Cell<u32>,
    /// Slots that were ever used; those after it are free and untouched.
    pub(super) fresh: Cell<u32>,
    pub(super) live: Gauge,
    pub(super) waiters: WaitList,
}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self {
            decl: Cell::new(None),
            base: Cell::new(core::ptr::null_mut()),
            stride: Cell::new(0),
            first: Cell::new(0),
            free: Cell::new(0),
            fresh: Cell::new(0),
            live: Gauge::new(),
            waiters: WaitList::new(),
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.decl.get().map_or(0, |decl| decl.count)
    }

    pub(super) fn name(&self) -> &'static str {
        self.decl.get().map_or("", |decl| decl.name)
    }

    /// How full it is; from any thread, once the worker is set up.
    pub(crate) fn usage(&self) -> Usage {
        self.live.usage(self.name(), true, self.count().into())
    }

    pub(super) fn has_room(&self) -> bool {
        self.live.get() < u64::from(self.count())
    }

    /// The body of the slot whose header has this index.
    pub(super) fn body(&self, index: u32) -> *mut u8 {
        let offset = (index - self.first.get()) as usize * self.stride.get();
        self.base.get().wrapping_add(offset)
    }

    /// Whether a future of this layout fits a slot.
    pub(super) fn fits(&self, size: usize, align: usize) -> bool {
        self.decl.get().is_some_and(|decl| size <= decl.size && align <= decl.align)
    }
}
