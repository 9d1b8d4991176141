//! The shapes of a pool's statics: tables that are zero while idle, bytes that nobody has written,
//! and the state of a worker.

use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A table that one worker owns while its pool runs; see [`crate::Core`].
#[repr(transparent)]
pub struct Owned<T>(T);

// SAFETY: what is inside is used by the worker's thread only: every handle to it is `!Send` and
// checks the owner; before the thread starts and after it was joined, by the one that starts the
// pool. What other threads touch (headers' remote links, the bell, the call queue, the counters) is
// atomic.
unsafe impl<T> Sync for Owned<T> {}

impl<T> Owned<T> {
    /// Wraps a table.
    pub const fn new(table: T) -> Self {
        Self(table)
    }

    pub(crate) fn get(&'static self) -> &'static T {
        &self.0
    }
}

/// Bytes that are written before they are read: task bodies, buffers, the provided ring. In `.bss`,
/// and page-aligned.
#[repr(C, align(4096))]
pub struct Bytes<const N: usize>(UnsafeCell<MaybeUninit<[u8; N]>>);

// SAFETY: as for `Owned`: each worker's part is its own.
unsafe impl<const N: usize> Sync for Bytes<N> {}

impl<const N: usize> Bytes<N> {
    /// Bytes, uninitialised.
    #[allow(clippy::new_without_default, reason = "only statics are made of it")]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// The `nth` of equal parts.
    pub(crate) fn part(&'static self, nth: usize, size: usize) -> Part {
        assert!((nth + 1) * size <= N, "a part lies inside");
        Part { start: self.0.get().cast::<u8>().wrapping_add(nth * size), size }
    }
}

/// A part of a pool's bytes: one worker's, for as long as its pool runs, and used through one of its
/// tables only. Valid for the program's life; page-aligned where its size is whole pages.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    start: *mut u8,
    size: usize,
}

impl Part {
    #[cfg(test)]
    pub(crate) fn leak(size: usize) -> Self {
        let layout = std::alloc::Layout::from_size_align(size, 4096).expect("a layout");
        // SAFETY: the layout's size is not zero in tests.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        Self { start, size }
    }

    pub(crate) fn start(self) -> *mut u8 {
        self.start
    }

    pub(crate) fn size(self) -> usize {
        self.size
    }
}

/// A static table that is set once a start; no table, and all zero, before.
pub(crate) struct Table<T: 'static> {
    first: Cell<*const T>,
    len: Cell<usize>,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { first: Cell::new(core::ptr::null()), len: Cell::new(0) }
    }

    pub(crate) fn set(&self, table: &'static [T]) {
        self.first.set(table.as_ptr());
        self.len.set(table.len());
    }

    /// The `nth`, which must be inside.
    #[inline(always)]
    pub(crate) fn at(&self, nth: usize) -> &'static T {
        assert!(nth < self.len.get());
        // SAFETY: inside one `&'static [T]`.
        unsafe { &*self.first.get().add(nth) }
    }

    /// The `nth`, where there is one.
    #[inline(always)]
    pub(crate) fn find(&self, nth: usize) -> Option<&'static T> {
        // SAFETY: inside one `&'static [T]`.
        (nth < self.len.get()).then(|| unsafe { &*self.first.get().add(nth) })
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> &'static [T] {
        if self.first.get().is_null() {
            return &[];
        }
        // SAFETY: pointer and length are of one `&'static [T]`.
        unsafe { core::slice::from_raw_parts(self.first.get(), self.len.get()) }
    }
}

/// A static of one worker that others find here. What they may touch of it is its own matter.
pub(crate) struct Published<T: 'static>(AtomicPtr<T>);

impl<T> Published<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    pub(crate) fn set(&self, published: &'static T) {
        self.0.store(core::ptr::from_ref(published).cast_mut(), Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or the static that `set` was given.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

/// A worker's static, as the handles on it hold it. They stay on the worker's thread, and the compiler
/// says so by this one pointer, where a reference would name every cell behind it.
pub(crate) struct Home<T: 'static>(*const T);

impl<T> Home<T> {
    pub(crate) fn new(home: &'static T) -> Self {
        Self(home)
    }

    #[inline(always)]
    pub(crate) fn get(self) -> &'static T {
        // SAFETY: `new` was given a `&'static T`.
        unsafe { &*self.0 }
    }
}

impl<T> Clone for Home<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Home<T> {}

impl<T> core::ops::Deref for Home<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.get()
    }
}

/// One worker's state: made before its entry, dropped when the worker ends, if nobody holds a guard.
pub struct StateCell<S> {
    value: UnsafeCell<MaybeUninit<S>>,
    made: Cell<bool>,
    guards: Cell<u32>,
}

// SAFETY: as for `Owned`.
unsafe impl<S> Sync for StateCell<S> {}

impl<S> StateCell<S> {
    /// An empty cell.
    #[allow(clippy::new_without_default, reason = "only statics are made of it")]
    pub const fn new() -> Self {
        Self {
            value: UnsafeCell::new(MaybeUninit::uninit()),
            made: Cell::new(false),
            guards: Cell::new(0),
        }
    }

    /// Puts the state in; on the worker's thread.
    pub(crate) fn fill(&self, state: S) {
        assert!(!self.made.get(), "a worker's state is made once");
        // SAFETY: nothing is in it, so nobody refers to it.
        unsafe { (*self.value.get()).write(state) };
        self.made.set(true);
    }

    /// A guard on the state. The caller has checked that its thread owns the worker.
    pub(crate) fn guard(&'static self) -> StateRef<S> {
        assert!(self.made.get(), "the worker's state is gone: the worker has stopped");
        self.guards.set(self.guards.get().checked_add(1).expect("guards of one state"));
        StateRef { cell: self, _worker_bound: core::marker::PhantomData }
    }

    /// Drops the state, unless a guard holds it; returns how many do.
    pub(crate) fn empty(&self) -> u32 {
        if self.guards.get() == 0 && self.made.replace(false) {
            // SAFETY: it was made, nobody refers to it, and it is dropped once.
            unsafe { (*self.value.get()).assume_init_drop() };
        }
        self.guards.get()
    }
}

/// The state of a worker, for as long as this is kept, across `await` too. A stop waits for it to
/// be dropped; one that is forgotten keeps the state from being dropped, and the pool from starting
/// again.
pub struct StateRef<S: 'static> {
    cell: &'static StateCell<S>,
    _worker_bound: core::marker::PhantomData<*const ()>,
}

impl<S> core::ops::Deref for StateRef<S> {
    type Target = S;

    fn deref(&self) -> &S {
        // SAFETY: the guard count keeps `empty` from dropping it; it is never lent mutably.
        unsafe { (*self.cell.value.get()).assume_init_ref() }
    }
}

impl<S> Drop for StateRef<S> {
    fn drop(&mut self) {
        self.cell.guards.set(self.cell.guards.get() - 1);
    }
}
