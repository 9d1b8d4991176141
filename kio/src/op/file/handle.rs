//! A handle: one worker's hold on a file that is open on the same or another.

use core::cell::Cell;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::request::{Answer, Ask, Asked, Data, Request};
use crate::op::Io;
use crate::task::WaitNode;

/// One handle's slot. Its request, for closing, stands ready from the begin, so that a drop never
/// waits.
///
/// ```text
///         claim            opened            close, drop        answered
///  Free ----1----> Claimed ---2----> Open -------3-----> Closing ---4----> Free
///                     \ the open failed: Free
/// ```
///
/// 1 [`Io::poll_handle`], 2 [`Io::handle_opened`], 3 [`Io::close_handle`], 4 [`Io::end_request`] of its own
/// request.
pub(crate) struct Handle {
    /// Who owns the file, once it is open.
    owner: Cell<Option<&'static Io>>,
    /// The file's entry there.
    entry: Cell<u32>,
    /// Index + 1 of the next free one.
    next_free: Cell<u32>,
}

/// An open file, as its handle's user sees it.
#[derive(Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) owner: &'static Io,
    pub(crate) entry: u32,
}

impl Handle {
    pub(crate) const fn new() -> Self {
        Self { owner: Cell::new(None), entry: Cell::new(0), next_free: Cell::new(0) }
    }

    pub(super) fn set_free(&self, next: u32) {
        self.owner.set(None);
        self.next_free.set(next);
    }
}

impl Io {
    fn handle(&self, index: u32) -> &'static Handle {
        self.files.handles.at(index as usize)
    }

    /// 1: claims a free handle; waits while all are taken.
    pub(crate) fn poll_handle(&'static self, node: Pin<&WaitNode>, cx: &Context<'_>) -> Poll<u32> {
        let files = &self.files;
        if node.has_turn(&files.handle_waiters)
            && let Some(index) = files.free_handle.get().checked_sub(1)
        {
            files.free_handle.set(self.handle(index).next_free.get());
            files.used.handles.rise();
            node.leave();
            return Poll::Ready(index);
        }
        if !node.is_waiting() {
            self.counters().file_waits.add(1);
            files.used.handles.waited();
        }
        node.wait(&files.handle_waiters, self.tasks(), cx);
        Poll::Pending
    }

    /// Says which handle an open fills; the request has it from here on.
    pub(crate) fn open_into(&self, request: &'static Request, handle: u32, owner: &'static Self) {
        request.handle.set(handle + 1);
        self.handle(handle).owner.set(Some(owner));
    }

    /// 2: the open succeeded. Its user has the handle from here on.
    pub(crate) fn handle_opened(&self, request: &'static Request, index: u32, answer: Answer) {
        request.handle.set(0);
        self.handle(index).entry.set(answer.value as u32);
    }

    /// What a handle is of.
    #[inline]
    pub(crate) fn opened_by(&self, index: u32) -> Option<Opened> {
        let handle = self.handle(index);
        Some(Opened { owner: handle.owner.get()?, entry: handle.entry.get() })
    }

    /// The descriptor of a file that this worker owns.
    pub(crate) fn descriptor(&self, index: u32) -> Option<i32> {
        let opened = self.opened_by(index)?;
        core::ptr::eq(opened.owner, self).then(|| self.entry(opened.entry).fd())
    }

    /// A handle that opened nothing is free again.
    pub(crate) fn free_handle(&self, index: u32) {
        let files = &self.files;
        self.handle(index).set_free(files.free_handle.replace(index + 1));
        files.used.handles.fall();
        files.handle_waiters.wake_one(self.tasks());
    }

    /// 3: closes. Returns the request that tells when it is done.
    pub(crate) fn close_handle(&'static self, index: u32) -> Option<&'static Request> {
        let Opened { owner, entry } = self.opened_by(index)?;
        let nth = self.files.flights.get().len() + index as usize;
        let request = self.files.requests.at(nth);
        request.handle.set(index);
        self.fill(request, entry, Asked::new(Ask::Close), Data::Nothing);
        self.post(request, owner);
        Some(request)
    }

    /// An open was given up before its answer came: what it opened is closed.
    pub(super) fn open_given_up(&'static self, request: &Request) {
        let Some(handle) = request.handle.replace(0).checked_sub(1) else { return };
        if request.result.get() < 0 {
            self.free_handle(handle);
            return;
        }
        self.handle(handle).entry.set(request.value.get() as u32);
        if let Some(closing) = self.close_handle(handle) {
            self.give_up(closing);
        }
    }
}
