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

/// The header that `waker` belongs to, where it is one of ours.
#[inline]
pub(super) fn header_of(waker: &Waker) -> *const Header {
    if core::ptr::eq(waker.vtable(), &VTABLE) { waker.data().cast() } else { core::ptr::null() }
}
