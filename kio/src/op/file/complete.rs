//! The owner's side: a request becomes submissions, step by step, and an answer.

use core::ptr;

use super::{Ask, FileMemory, Request, entry, vectored};
use crate::error::Held;
use crate::op::Io;
use crate::ring::{Bytes, Sqe, sys};

/// Bytes of one read or write, at most: the kernel moves 2 GiB less a page.
const PIECE: u64 = 1 << 30;

impl Io {
    /// Takes the tables over. Everything is free.
    pub(crate) fn set_up_files(&'static self, memory: FileMemory, first_slot: u32) {
        let files = &self.files;
        files.requests.set(memory.requests);
        files.handles.set(memory.handles);
        files.entries.set(memory.entries);
        files.flights.set(memory.flights);
        files.first_slot.set(first_slot);
        files.registered.set(false);
        files.cancelling.set(false);
        files.cancel_next.set(memory.flights.len() as u32);
        for (index, request) in memory.requests.iter().enumerate() {
            request.home.set(Some(self));
            request.index.set(index as u32);
        }
        // Linked from the last to the first: the first is taken first.
        let links =
            |n: usize| (0..n).rev().map(move |at| (at, if at + 1 < n { at as u32 + 2 } else { 0 }));
        for (at, next) in links(memory.flights.len()) {
            memory.requests[at].entry.set(next);
            memory.flights[at].set_free(next);
        }
        for (at, next) in links(memory.handles.len()) {
            memory.handles[at].set_free(next);
        }
        for (at, next) in links(memory.entries.len()) {
            memory.entries[at].set_free(next);
        }
        files.free_request.set(u32::from(!memory.flights.is_empty()));
        files.free_flight.set(u32::from(!memory.flights.is_empty()));
        files.free_handle.set(u32::from(!memory.handles.is_empty()));
        files.free_entry.set(u32::from(!memory.entries.is_empty()));
    }

    /// Carries a request out, as the owner of what it is about.
    #[inline]
    pub(super) fn begin(&'static self, request: &'static Request) {
        let ask = request.ask.get();
        if ask.is_of_a_file() {
            self.entry_busy(request.entry.get());
        }
        match ask {
            Ask::Open => self.begin_open(request),
            Ask::Close => self.begin_close(request),
            Ask::Sync => self.begin_sync(request),
            Ask::SetLen if !self.features.get().set_len => {
                // Before 6.9 there is no operation for it: the call blocks for its length.
                let fd = self.entry(request.entry.get()).fd();
                request.value.set(self.files.appends.get());
                self.landed(request, sys::set_len(fd, request.offset.get()));
            }
            Ask::SetLen => {
                request.value.set(self.files.appends.get());
                self.files.work.push(request);
            }
            Ask::Append => {
                let len = request.len.get();
                request.offset.set(self.take_tail(request.entry.get(), len));
                request.value.set(request.offset.get());
                self.files.work.push(request);
            }
            _ => self.files.work.push(request),
        }
    }

    /// The next step of a request goes to the kernel.
    pub(super) fn next_step(&self, request: &'static Request) {
        request.step.set(request.step.get() + 1);
        self.files.work.push(request);
    }

    /// The SQE of a request's step.
    #[inline]
    pub(super) fn file_sqe(&'static self, request: &'static Request) -> Sqe {
        let (addr, second) = (request.addr.get(), request.second.get());
        let [first_arg, second_arg] = request.args.get();
        let (at, offset, len) = (request.entry.get(), request.offset.get(), request.len.get());
        let option = request.option.get();
        // SAFETY: what they point to is in buffers that the request holds until it is answered, or
        // static; paths end in NUL.
        unsafe {
            match request.ask.get() {
                Ask::Read => {
                    let (bytes, from) = self.transfer(request);
                    Sqe::read(self.entry_file(at), bytes, from)
                }
                Ask::Write | Ask::Append => {
                    let (bytes, to) = self.transfer(request);
                    Sqe::write(self.entry_file(at), bytes, to)
                }
                Ask::Open => self.open_sqe(request),
                Ask::Close => self.close_sqe(request),
                Ask::Sync => Sqe::sync(self.entry_file(at), option),
                Ask::SetLen => Sqe::set_len(self.entry_file(at), offset),
                Ask::Allocate => Sqe::allocate(self.entry_file(at), first_arg, offset, len),
                Ask::Advise => {
                    let len = u32::try_from(len).unwrap_or(0);
                    Sqe::advise(self.entry_file(at), offset, len, first_arg)
                }
                Ask::Stat => Sqe::stat(self.entry(at).fd(), addr),
                Ask::StatPath => Sqe::stat_path(addr, addr, option),
                Ask::Rename => Sqe::rename(addr, second, first_arg),
                Ask::Link => Sqe::link(addr, second),
                Ask::Symlink => Sqe::symlink(second, addr), // a link's text may be anything
                Ask::Unlink => Sqe::unlink(addr, option),
                Ask::MakeDir => Sqe::make_dir(addr, second_arg),
                Ask::Nothing => Sqe::nop(),
            }
        }
    }

    /// The bytes that are left to move, and where in the file.
    #[inline]
    fn transfer(&'static self, request: &'static Request) -> (Bytes, u64) {
        let done = request.done.get();
        let offset = request.offset.get() + done;
        if request.vectors.get() > 0 {
            let (addr, count) = vectored::rest(request);
            return (Bytes::Vectored { addr, count }, offset);
        }
        let addr = request.addr.get() + done;
        let len = (request.len.get() - done).min(PIECE) as u32;
        let ours =
            request.buf.get() != 0 && request.home.get().is_some_and(|home| ptr::eq(home, self));
        if ours && self.files.registered.get() {
            (Bytes::Fixed { addr, len }, offset)
        } else {
            (Bytes::Plain { addr, len }, offset)
        }
    }

    /// A step of a request has completed.
    #[inline]
    pub(super) fn landed(&'static self, request: &'static Request, result: i32) {
        match request.ask.get() {
            Ask::Read | Ask::Write | Ask::Append => self.moved(request, result),
            Ask::Open => self.open_landed(request, result),
            Ask::Close => self.close_landed(request, result),
            Ask::Sync => self.sync_landed(request, result),
            ask => {
                let entry = request.entry.get();
                if result >= 0 {
                    self.change_tail(request);
                }
                self.answer(request, result);
                if ask.is_of_a_file() {
                    self.entry_done(entry);
                }
            }
        }
    }

    /// A read or write has moved bytes, or failed.
    #[inline]
    fn moved(&'static self, request: &'static Request, result: i32) {
        let (ask, at) = (request.ask.get(), request.entry.get());
        if result > 0 {
            request.done.set(request.done.get() + result as u64);
            let left = request.done.get() < request.len.get() && request.whole.get();
            // Direct reads end at the end of the file only, within a block.
            if left && !(ask == Ask::Read && self.ends_in_block(at, request.done.get())) {
                self.files.work.push(request);
                return;
            }
        }
        let (len, done) = (request.len.get(), request.done.get());
        let to = request.offset.get() + done;
        match ask {
            Ask::Append => self.append_ended(at, request.offset.get() + len, to),
            Ask::Write if done > 0 => self.reach_tail(at, to),
            _ => {}
        }
        // A device that takes nothing and calls it no error.
        let nothing = result == 0 && done < len && request.whole.get() && ask != Ask::Read;
        let result = if nothing { -libc::EIO } else { result };
        self.answer(request, result);
        self.entry_done(at);
    }

    /// What an operation that succeeded did to a file's end.
    fn change_tail(&self, request: &Request) {
        const KEEPS_SIZE: u32 = 1; // FALLOC_FL_KEEP_SIZE
        let at = request.entry.get();
        match request.ask.get() {
            Ask::SetLen => self.shorten_tail(at, request.offset.get(), request.value.get()),
            Ask::Allocate if request.args.get()[0] & KEEPS_SIZE == 0 => {
                self.reach_tail(at, request.offset.get() + request.len.get());
            }
            _ => {}
        }
    }

    // ---- the end ----

    /// Whether a request of this worker is not back, or a file is open here.
    pub(crate) fn files_busy(&self) -> bool {
        let used = &self.files.used;
        let away = self.files.requests.get().iter().any(Request::is_away);
        used.entries.get() > 0 || used.flights.get() > 0 || away
    }

    /// What is still held.
    pub(in crate::op) fn files_held(&self, held: &mut Held) {
        held.files += self.files.used.handles.get() + self.files.used.requests.get();
        held.files +=
            self.files.entries.get().iter().filter(|e| entry::Entry::is_used(e)).count() as u32;
    }

    pub(in crate::op) fn wake_file_waiters(&self) {
        self.files.request_waiters.wake_all(self.tasks());
        self.files.handle_waiters.wake_all(self.tasks());
    }
}
