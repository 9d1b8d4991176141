//! Calls from other threads: a closure runs on a worker, and its caller blocks for the value.
//!
//! The message is a node on the caller's own stack: any number of threads may post at once and none
//! needs a slot to do so. It stays valid because the caller does not return, nor unwind, before the
//! worker says it is done; after that the worker touches it no more. The future runs in a slot of the
//! declared call arena, which the worker claims for it; while that is full, messages wait in the queue.

use core::any::Any;
use core::cell::{Cell, UnsafeCell};
use core::pin::Pin;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use core::task::{Context, Poll};
use std::thread::{self, Thread};

use super::worker::LOST;
use super::{SlotSize, check_size};
use crate::error::{Error, Result};
use crate::task::{Tasks, catch};

/// What is in `head` once a worker has ended. Never dereferenced.
const CLOSED: *mut Node = ptr::without_provenance_mut(1);

/// The calls posted to one worker.
pub(crate) struct CallQueue {
    /// Posted by any thread, newest first. Pushed one by one and taken all at once, so no ABA.
    head: AtomicPtr<Node>,
    /// Taken, in the order of posting; the owner's.
    pending: Cell<*const Node>,
}

/// A posted call. All of it is written before the push, but `next`, which is its holder's: the
/// pusher's, then the owner's.
struct Node {
    next: Cell<*const Node>,
    begin: unsafe fn(*const Node, Option<Place>),
}

/// Where a call begins; `None` is a refusal.
#[derive(Clone, Copy)]
struct Place {
    tasks: &'static Tasks,
    slot: u32,
    /// What the closure is called with.
    context: &'static dyn Any,
}

impl CallQueue {
    pub(crate) const fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()), pending: Cell::new(ptr::null()) }
    }

    /// Takes calls from here on.
    pub(crate) fn open(&self) {
        self.head.store(ptr::null_mut(), Ordering::Release);
    }

    /// Posts a call. `node` points to the whole frame, which `begin` reaches through it.
    fn push(&self, node: *const Node) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                return false;
            }
            // SAFETY: the caller's frame, which nobody else knows before the exchange.
            unsafe { (*node).next.set(head) };
            match self.head.compare_exchange_weak(
                head,
                node.cast_mut(),
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Whether something was posted. The look before sleeping.
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::SeqCst);
        head.is_null() || head == CLOSED
    }

    /// Moves what was posted behind what is pending.
    fn collect(&self, head: *const Node) {
        let (mut newest, mut in_order) = (head, ptr::null());
        while !newest.is_null() {
            // SAFETY: a posted node is valid until its `begin` was called, which is after it left
            // the queue.
            let node = unsafe { &*newest };
            newest = node.next.replace(in_order);
            in_order = node;
        }
        let mut last = &self.pending;
        while !last.get().is_null() {
            // SAFETY: as above.
            last = unsafe { &(*last.get()).next };
        }
        last.set(in_order);
    }

    /// Begins what was posted, as far as the arena has slots.
    pub(crate) fn begin(&self, tasks: &'static Tasks, context: &'static dyn Any) {
        if !self.is_empty() {
            self.collect(self.head.swap(ptr::null_mut(), Ordering::AcqRel));
        }
        while !self.pending.get().is_null() {
            let Some(slot) = tasks.claim_for_thread() else {
                return;
            };
            tasks.counters.calls.add(1);
            self.next(Some(Place { tasks, slot: tasks.adopt_call(slot), context }));
        }
        tasks.pass_thread_slots();
    }

    /// Refuses all that is posted and all that will be.
    pub(crate) fn close(&self) {
        let head = self.head.swap(CLOSED, Ordering::AcqRel);
        if head != CLOSED {
            self.collect(head);
        }
        while !self.pending.get().is_null() {
            self.next(None);
        }
    }

    fn next(&self, place: Option<Place>) {
        let node = self.pending.get();
        // SAFETY: a pending node is valid; it leaves the queue before `begin` may end it.
        unsafe {
            self.pending.set((*node).next.get());
            ((*node).begin)(node, place);
        }
    }
}

/// A call on its caller's stack.
#[repr(C)]
struct Frame<C, R> {
    node: Node,
    closure: Cell<Option<C>>,
    result: UnsafeCell<Option<R>>,
    refused: Cell<bool>,
    done: AtomicBool,
    caller: Thread,
}

impl<C, R> Frame<C, R> {
    /// Lets the caller go.
    ///
    /// # Safety
    /// The frame is not touched after this.
    unsafe fn finish(this: *const Self) {
        // SAFETY: the caller blocks until `done`, so the frame is valid up to that store. The handle
        // to wake it with is cloned before.
        unsafe {
            let caller = (*this).caller.clone();
            (*this).done.store(true, Ordering::Release);
            caller.unpark();
        }
    }
}

/// The future of a call, in the arena: the user's, and whom to answer.
pub(crate) struct CallFuture<F, R> {
    future: F,
    /// Null once answered.
    answer: *const UnsafeCell<Option<R>>,
    /// Lets the caller go; given the frame.
    finish: unsafe fn(*const ()),
    frame: *const (),
}

impl<F: Future<Output = R>, R> Future for CallFuture<F, R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `future` is pinned with the whole and never moved; the rest is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let Poll::Ready(value) = unsafe { Pin::new_unchecked(&mut this.future) }.poll(cx) else {
            return Poll::Pending;
        };
        // SAFETY: the caller waits until `finish`, and reads the result after it only.
        unsafe { *(*this.answer).get() = Some(value) };
        Poll::Ready(())
    }
}

impl<F, R> Drop for CallFuture<F, R> {
    fn drop(&mut self) {
        // Ended, aborted or panicked: the caller is let go once, here, with a value or without.
        // SAFETY: the frame is valid until this call and not touched after it.
        unsafe { (self.finish)(self.frame) };
    }
}

/// Runs `closure` on the worker whose queue and tasks these are, and waits for its value.
///
/// The slot size is compared when this is compiled: too big a future is a build error.
pub(crate) fn call<C, Fut, R, S: SlotSize>(
    queue: &CallQueue,
    tasks: &Tasks,
    closure: C,
) -> Result<R>
where
    C: FnOnce(&'static dyn Any) -> Fut + Send,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    const {
        check_size(size_of::<CallFuture<Fut, R>>(), align_of::<CallFuture<Fut, R>>(), S::SIZE);
    }
    let frame = Frame::<C, R> {
        node: Node { next: Cell::new(ptr::null()), begin: begin::<C, Fut, R> },
        closure: Cell::new(Some(closure)),
        result: UnsafeCell::new(None),
        refused: Cell::new(false),
        done: AtomicBool::new(false),
        caller: thread::current(),
    };
    if !queue.push(ptr::from_ref(&frame).cast::<Node>()) {
        return Err(Error::Stopped);
    }
    tasks.ring_bell();
    while !frame.done.load(Ordering::Acquire) {
        thread::park();
    }
    match frame.result.into_inner() {
        Some(value) => Ok(value),
        None if frame.refused.get() => Err(Error::Stopped),
        None => Err(Error::Other(LOST)),
    }
}

/// # Safety
/// `node` is the first field of a `Frame<C, R>` whose caller waits, and has left its queue.
unsafe fn begin<C, Fut, R>(node: *const Node, place: Option<Place>)
where
    C: FnOnce(&'static dyn Any) -> Fut,
    Fut: Future<Output = R> + 'static,
    R: 'static,
{
    let frame = node.cast::<Frame<C, R>>();
    // SAFETY: the caller of this function vouches for the frame. Refused, the closure stays in it: its
    // caller drops it, not the worker's loop.
    let begun = place.and_then(|place| Some((place, unsafe { (*frame).closure.take() }?)));
    let Some((place, closure)) = begun else {
        // SAFETY: as above; not touched after `finish`.
        unsafe {
            (*frame).refused.set(true);
            Frame::finish(frame);
        }
        return;
    };
    let built = catch(|| {
        let make = || CallFuture {
            future: closure(place.context),
            // SAFETY: the frame is valid while its caller waits.
            answer: unsafe { &raw const (*frame).result },
            // SAFETY: `finish_frame` is called once, by the future's drop.
            finish: finish_frame::<C, R>,
            frame: frame.cast(),
        };
        // SAFETY: the slot was just claimed in the call arena, whose slot size `call` compared with
        // this future's while compiling; its output is `()`.
        unsafe { place.tasks.start(place.slot, false, make) };
    });
    if built.is_err() {
        // The closure panicked before it made a future; the slot went back on the way out.
        place.tasks.counters.panics.add(1);
        // SAFETY: as above; not touched after `finish`.
        unsafe { Frame::finish(frame) };
    }
}

/// # Safety
/// `frame` is a `Frame<C, R>` whose caller waits; it is not touched after this.
unsafe fn finish_frame<C, R>(frame: *const ()) {
    // SAFETY: the caller vouches for it.
    unsafe { Frame::finish(frame.cast::<Frame<C, R>>()) }
}
