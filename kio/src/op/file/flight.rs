//! What is in the kernel: requests that this worker carries out, each with a slot whose index and
//! generation the completion brings back. There are `file_ops` of them, so the sum of completions is
//! known, whoever asks.

use core::cell::Cell;

use super::{Ask, Request};
use crate::metrics::Op;
use crate::op::slot::Tag;
use crate::op::{CANCELS_MAX, Io};
use crate::ring::{Cqe, Sqe};
use crate::trace;

/// One operation on a file, in the kernel. Free, then flying until its completion: every operation
/// here has exactly one.
pub(crate) struct Flight {
    request: Cell<Option<&'static Request>>,
    generation: Cell<u32>,
    /// A cancel of it was pushed.
    cancelled: Cell<bool>,
    /// Index + 1 of the next free one.
    next_free: Cell<u32>,
}

impl Flight {
    pub(crate) const fn new() -> Self {
        Self {
            request: Cell::new(None),
            generation: Cell::new(0),
            cancelled: Cell::new(false),
            next_free: Cell::new(0),
        }
    }

    pub(super) fn set_free(&self, next: u32) {
        self.request.set(None);
        self.next_free.set(next);
    }

    /// Whether it is in the kernel.
    pub(super) fn is_used(&self) -> bool {
        self.request.get().is_some()
    }
}

impl Io {
    /// Whether something waits to be pushed and may be.
    #[inline]
    pub(crate) fn has_file_submissions(&self) -> bool {
        let files = &self.files;
        !files.work.is_empty() && files.free_flight.get() != 0
    }

    /// Gives the next submission of a request to `push`, while fewer than `file_ops` are in the kernel;
    /// false where there is none. Not returned: an `Option` of its 64 bytes is copied twice.
    #[inline]
    pub(crate) fn next_file_sqe(&'static self, push: impl FnOnce(&Sqe)) -> bool {
        let files = &self.files;
        if files.work.is_empty() {
            return false;
        }
        let Some(index) = files.free_flight.get().checked_sub(1) else { return false };
        let Some(request) = files.work.pop() else { return false };
        let flight = files.flights.at(index as usize);
        files.free_flight.set(flight.next_free.get());
        self.in_flight.set(self.in_flight.get() + 1);
        self.counters().ops.add(request.ask.get().counted());
        flight.request.set(Some(request));
        flight.cancelled.set(false);
        if files.cancelling.get() {
            files.cancel_next.set(files.cancel_next.get().min(index));
        }
        let tag = Tag::File { flight: index, generation: flight.generation.get() }.encode();
        let op = request.ask.get().counted();
        self.tasks().trace.op(trace::Kind::Submit, op, tag, 0, false);
        self.file_sqe(request, |sqe| push(&sqe.tagged(tag)));
        true
    }

    /// What a completion of an operation on a file is of.
    pub(in crate::op) fn op_in_flight(&self, index: u32) -> Op {
        let flight = self.files.flights.find(index as usize);
        let request = flight.and_then(|flight| flight.request.get());
        request.map_or(Op::None, |request| request.ask.get().counted())
    }

    /// A completion of an operation on a file.
    #[inline(always)]
    pub(in crate::op) fn complete_file(&'static self, index: u32, generation: u32, cqe: Cqe) {
        let files = &self.files;
        let flight = files.flights.get().get(index as usize);
        let Some(flight) = flight.filter(|flight| flight.generation.get() == generation) else {
            return self.complete_stale(cqe);
        };
        let Some(request) = flight.request.take() else {
            return self.complete_stale(cqe);
        };
        flight.generation.set(generation.wrapping_add(1));
        flight.next_free.set(files.free_flight.replace(index + 1));
        self.in_flight.set(self.in_flight.get() - 1);
        self.landed(request, cqe.result);
    }

    /// As the worker ends: the next cancel of an operation on a file. One on a FIFO, say, might never
    /// end by itself. But closes do: cancelled, one would leave its descriptor open.
    pub(crate) fn next_file_cancel(&self) -> Option<Sqe> {
        let files = &self.files;
        while self.cancels.get() < CANCELS_MAX {
            let index = files.cancel_next.get();
            let flight = files.flights.get().get(index as usize)?;
            files.cancel_next.set(index + 1);
            let ends = |request: &Request| request.ask.get() == Ask::Close;
            if flight.request.get().is_some_and(|request| !ends(request))
                && !flight.cancelled.replace(true)
            {
                self.cancels.set(self.cancels.get() + 1);
                self.counters().ops.add(Op::Cancel);
                let target = Tag::File { flight: index, generation: flight.generation.get() };
                return Some(Sqe::cancel(target.encode()).tagged(Tag::Cancel.encode()));
            }
        }
        None
    }

    /// Lets [`Io::next_file_cancel`] cancel what is in the kernel, and what comes there from now on.
    pub(crate) fn cancel_files(&self) {
        if !self.files.cancelling.replace(true) {
            self.files.cancel_next.set(0);
        }
    }
}
