//! The waker of a task: a pointer to its static header, so cloning and dropping cost nothing.
//!
//! On the owner's thread it queues the task; on any other it takes the way of [`super::remote`].
//! Headers are statics, so a waker that outlives its task, its pool even, dangles nowhere: at most it
//! wakes a stranger.

use core::task::{RawWaker, RawWakerVTable, Waker};

use super::{Header, Tasks};

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop);

unsafe fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: `data` came from a `&'static Header` in `waker`.
    let header: &'static Header = unsafe { &*data.cast::<Header>() };
    let tasks = header.tasks();
    if tasks.is_null() {
        return;
    }
    // SAFETY: a header's tasks are a static of the same worker.
    let tasks: &'static Tasks = unsafe { &*tasks };
    tasks.wake(header);
}

unsafe fn drop(_: *const ()) {}

/// The waker of the task with this header.
pub(super) fn waker(header: &'static Header) -> Waker {
    let data = core::ptr::from_ref(header).cast();
    // SAFETY: the functions above keep the contract: they are thread-safe, and the data is static.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}

/// Whether `waker` is that of the task with this header.
#[inline]
pub(super) fn is_of(waker: &Waker, header: &Header) -> bool {
    core::ptr::eq(waker.data().cast(), header) && core::ptr::eq(waker.vtable(), &VTABLE)
}
