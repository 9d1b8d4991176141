//! Index lists: queues of slots linked through the slots themselves, each leavable in O(1).

use core::cell::Cell;

use crate::task::Table;

/// A slot's links, as index + 1; 0 is none. All zero while on no list.
pub(crate) struct Links {
    prev: Cell<u32>,
    next: Cell<u32>,
}

impl Links {
    pub(crate) const fn new() -> Self {
        Self { prev: Cell::new(0), next: Cell::new(0) }
    }
}

/// A slot that can be on one list at a time.
pub(crate) trait Linked {
    fn links(&self) -> &Links;
}

/// A first-in, first-out list over a table.
pub(crate) struct List {
    head: Cell<u32>,
    tail: Cell<u32>,
}

impl List {
    pub(crate) const fn new() -> Self {
        Self { head: Cell::new(0), tail: Cell::new(0) }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.get() == 0
    }

    #[inline]
    pub(crate) fn first(&self) -> Option<u32> {
        self.head.get().checked_sub(1)
    }

    /// Adds a slot that is on no list at the end.
    #[inline]
    pub(crate) fn push(&self, table: &Table<impl Linked>, index: u32) {
        let links = table.at(index as usize).links();
        let tail = self.tail.replace(index + 1);
        links.prev.set(tail);
        links.next.set(0);
        match tail {
            0 => self.head.set(index + 1),
            tail => table.at(tail as usize - 1).links().next.set(index + 1),
        }
    }

    /// Takes out a slot that is on this list.
    #[inline]
    pub(crate) fn leave(&self, table: &Table<impl Linked>, index: u32) {
        let links = table.at(index as usize).links();
        let (prev, next) = (links.prev.replace(0), links.next.replace(0));
        match prev {
            0 => self.head.set(next),
            prev => table.at(prev as usize - 1).links().next.set(next),
        }
        match next {
            0 => self.tail.set(prev),
            next => table.at(next as usize - 1).links().prev.set(prev),
        }
    }

    #[inline]
    pub(crate) fn pop(&self, table: &Table<impl Linked>) -> Option<u32> {
        let index = self.first()?;
        let next = table.at(index as usize).links().next.replace(0);
        self.head.set(next);
        match next {
            0 => self.tail.set(0),
            next => table.at(next as usize - 1).links().prev.set(0),
        }
        Some(index)
    }
}
