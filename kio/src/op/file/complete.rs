//! The owner's side: a request becomes submissions, step by step, and an answer.

use core::ptr;

use super::{Ask, FileMemory, Flight, Request, vectored};
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
        for used in [&files.used.handles, &files.used.entries, &files.used.requests] {
            used.begin();
        }
        files.cancel_next.set(memory.flights.len() as u32);
        for request in memory.requests {
            request.home.set(Some(self));
        }
        // Linked from the last to the first: the first is taken first.
        let links =
            |n: usize| (0..n).rev().map(move |at| (at, if at + 1 < n { at as u32 + 2 } else { 0 }));
        for (at, next) in links(memory.flights.len()) {
            memory.requests[at]
                .next
                .set(next.checked_sub(1).map(|next| &memory.requests[next as usize]));
            memory.flights[at].set_free(next);
        }
        for (at, next) in links(memory.handles.len()) {
            memory.handles[at].set_free(next);
        }
        for (at, next) in links(memory.entries.len()) {
            memory.entries[at].set_free(next);
        }
        files.free_request.set(memory.requests.first().filter(|_| !memory.flights.is_empty()));
        files.free_flight.set(u32::from(!memory.flights.is_empty()));
        files.free_handle.set(u32::from(!memory.handles.is_empty()));
        files.free_entry.set(u32::from(!memory.entries.is_empty()));
    }

    /// Carries a request out, as the owner of what it is about.
    #[inline]
    pub(super) fn begin(&'static self, request: &'static Request) {
        match request.ask.get() {
            Ask::Read | Ask::Write => {
                self.entry_busy(request.entry.get());
                self.files.work.push(request);
            }
            ask => self.begin_rare(request, ask),
        }
    }

    fn begin_rare(&'static self, request: &'static Request, ask: Ask) {
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

    /// Gives the SQE of a request's step to `push`.
    #[inline]
    pub(super) fn file_sqe(&'static self, request: &'static Request, push: impl FnOnce(Sqe)) {
        let ask = request.ask.get();
        if !ask.is_transfer() {
            return push(self.rare_sqe(request, ask));
        }
        let file = self.entry_file(request.entry.get());
        let (bytes, offset) = self.transfer(request);
        // SAFETY: the bytes are in buffers that the request holds until it is answered, or static.
        push(unsafe {
            match ask {
                Ask::Read => Sqe::read(file, bytes, offset),
                _ => Sqe::write(file, bytes, offset),
            }
        });
    }

    fn rare_sqe(&'static self, request: &'static Request, ask: Ask) -> Sqe {
        let (addr, second) = (request.addr.get(), request.second.get());
        let [first_arg, second_arg] = request.args.get();
        let (at, offset, len) = (request.entry.get(), request.offset.get(), request.len.get());
        let option = request.option.get();
        // SAFETY: what they point to is in buffers that the request holds until it is answered, or
        // static; paths end in NUL.
        unsafe {
            match ask {
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
                Ask::Nothing | Ask::Read | Ask::Write | Ask::Append => Sqe::nop(),
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
    #[inline(always)]
    pub(super) fn landed(&'static self, request: &'static Request, result: i32) {
        let ask = request.ask.get();
        if ask.is_transfer() {
            self.moved(request, ask, result);
        } else {
            self.landed_rare(request, ask, result);
        }
    }

    fn landed_rare(&'static self, request: &'static Request, ask: Ask, result: i32) {
        match ask {
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
    #[inline(always)]
    fn moved(&'static self, request: &'static Request, ask: Ask, result: i32) {
        let at = request.entry.get();
        if result > 0 {
            let done = request.done.get() + result as u64;
            request.done.set(done);
            let counters = self.counters();
            let moved = if ask == Ask::Read { &counters.file_read } else { &counters.file_written };
            moved.add(result as u64);
            let left = request.whole.get() && done < request.len.get();
            // Direct reads end at the end of the file only, within a block.
            if left && !(ask == Ask::Read && self.ends_in_block(at, done)) {
                self.files.work.push(request);
                return;
            }
        }
        let mut result = result;
        if ask != Ask::Read {
            self.moved_tail(request, ask);
            // A device that takes nothing and calls it no error.
            if result == 0 && request.done.get() < request.len.get() && request.whole.get() {
                result = -libc::EIO;
            }
        }
        self.answer(request, result);
        self.entry_done(at);
    }

    /// What a write that is over did to a file's end.
    fn moved_tail(&self, request: &Request, ask: Ask) {
        let (at, done, len) = (request.entry.get(), request.done.get(), request.len.get());
        let to = request.offset.get() + done;
        if ask == Ask::Append {
            self.append_ended(at, request.offset.get() + len, to);
        } else if ask == Ask::Write && done > 0 {
            self.reach_tail(at, to);
        }
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
        let files = &self.files;
        let away = files.requests.get().iter().any(Request::is_away);
        files.used.entries.get() > 0 || files.flights.get().iter().any(Flight::is_used) || away
    }

    /// What is still held.
    pub(in crate::op) fn files_held(&self, held: &mut Held) {
        let files = &self.files;
        let tasks = &files.requests.get()[..files.flights.get().len()];
        held.files += files.used.handles.get() as u32;
        held.files += tasks.iter().filter(|request| request.is_used()).count() as u32;
        held.files += files.entries.get().iter().filter(|entry| entry.is_used()).count() as u32;
    }

    pub(in crate::op) fn wake_file_waiters(&self) {
        self.files.request_waiters.wake_all(self.tasks());
        self.files.handle_waiters.wake_all(self.tasks());
    }
}
