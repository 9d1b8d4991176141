//! A request: one thing asked of a file or a path, with all the memory that it takes.

use core::cell::Cell;
use core::pin::Pin;
use core::ptr;
use core::task::{Context, Poll};

use super::vectored::{self, Piece};
use crate::buf::{BufMut, View};
use crate::error::{Error, Result};
use crate::metrics::Op;
use crate::op::{Io, Out};
use crate::task::{WaitNode, Waiter};

/// A request's life, as its home sees it.
///
/// ```text
///         claim            post            answered          taken
///  Free ----1----> Taken ----2----> Away -----3----> Done ------4-----> Free
///                    \ dropped: Free   \ given up: Free once answered
/// ```
///
/// 1 `Io::poll_request`, 2 [`Io::post`], 3 `Io::answered`, 4 [`Io::end_request`]; [`Io::give_up`].
/// While it is away it is the owner's (see `op/file/mod.rs`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    Free = 0,
    Taken,
    Away,
    Done,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Ask {
    Nothing = 0,
    Open,
    Close,
    Read,
    Write,
    Append,
    Sync,
    SetLen,
    Allocate,
    Advise,
    Stat,
    StatPath,
    Rename,
    Link,
    Symlink,
    Unlink,
    MakeDir,
}

impl Ask {
    /// As it is counted.
    #[inline(always)]
    pub(super) const fn counted(self) -> Op {
        match self {
            Self::Nothing => Op::None,
            Self::Open => Op::Open,
            Self::Close => Op::Close,
            Self::Read => Op::Read,
            Self::Write | Self::Append => Op::Write,
            Self::Sync => Op::Sync,
            Self::SetLen | Self::Allocate | Self::Advise => Op::Length,
            Self::Stat | Self::StatPath => Op::Stat,
            Self::Rename | Self::Link | Self::Symlink | Self::Unlink | Self::MakeDir => Op::Path,
        }
    }

    /// Whether it moves bytes of an open file.
    #[inline]
    pub(super) fn is_transfer(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Append)
    }

    /// Whether it is asked of an open file, and not of a path.
    pub(super) fn is_of_a_file(self) -> bool {
        matches!(
            self,
            Self::Read
                | Self::Write
                | Self::Append
                | Self::Sync
                | Self::SetLen
                | Self::Allocate
                | Self::Advise
                | Self::Stat
        )
    }
}

/// The bytes that a request moves, or its paths.
pub(crate) enum Data<'a> {
    Nothing,
    /// Into the room of a buffer, so many bytes at most.
    Into(View, usize),
    From(Out),
    /// One path or two, each ended by NUL, in one buffer: where the second begins. (Two buffers, one
    /// waited for while the other is held, could be waited for in a circle.)
    Paths(BufMut, usize),
    /// Into the room of many, or from many; described in a buffer of its own.
    IntoMany(BufMut, &'a mut dyn Iterator<Item = BufMut>),
    FromMany(BufMut, &'a mut dyn Iterator<Item = crate::Buf>),
}

/// What a request asks, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    /// Where, and with `SetLen` the length.
    pub(crate) offset: u64,
    /// How many bytes, where none are moved.
    pub(crate) len: u64,
    /// Carries on after short results.
    pub(crate) whole: bool,
    /// The data only (sync); a directory (unlink); what a link names (stat by path).
    pub(crate) option: bool,
    /// Flags, mode or advice, by what is asked.
    pub(crate) args: [u32; 2],
}

impl Asked {
    pub(crate) const fn new(ask: Ask) -> Self {
        Self { ask, offset: 0, len: 0, whole: false, option: false, args: [0; 2] }
    }
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// A negative error number, or what the operation gave.
    pub(crate) result: i32,
    /// Bytes that were moved.
    pub(crate) done: u64,
    /// Where an append begins; the entry that was opened.
    pub(crate) value: u64,
    /// Alignments of direct I/O, of an open: of memory and of offsets.
    pub(crate) aligns: [u32; 2],
}

impl Answer {
    /// The bytes moved, or the error.
    pub(crate) fn check(self, doing: &'static str) -> Result<Self> {
        match -self.result {
            ..=0 => Ok(self),
            libc::ECANCELED => Err(Error::Stopped), // only a stop cancels
            // EACCES too: what files need is declared, or asked for nowhere.
            errno => Err(Error::Os { doing, errno }),
        }
    }
}

/// One request's slot; all zero while free, but for its home. What moves bytes touches two cache lines
/// of it: the first is what the owner works with, the second its home's.
#[repr(C, align(64))]
pub(crate) struct Request {
    /// The next one in the line, the mailbox or the free list that it is in.
    pub(super) next: Cell<Option<&'static Self>>,
    /// The worker whose memory it is.
    pub(super) home: Cell<Option<&'static Io>>,
    pub(super) offset: Cell<u64>,
    /// Where the bytes or the first path begin, how many they are, how many were moved.
    pub(super) addr: Cell<u64>,
    pub(super) len: Cell<u64>,
    pub(super) done: Cell<u64>,
    /// The entry on the owner, of what is asked of a file.
    pub(super) entry: Cell<u32>,
    /// The buffer of its home's store that it holds, index + 1; that of the list where there are many.
    pub(super) buf: Cell<u32>,
    pub(super) result: Cell<i32>,
    pub(super) state: Cell<State>,
    pub(super) ask: Cell<Ask>,
    /// Carries on after short results.
    pub(super) whole: Cell<bool>,
    /// How many buffers the bytes are in; 0 is one piece.
    pub(super) vectors: Cell<u8>,

    waiter: Waiter,
    /// Where the buffer's view begins; it ended where the bytes begin.
    start: Cell<u32>,
    /// Nobody waits for the answer. Only its home looks.
    given_up: Cell<bool>,
    /// How far an operation of several steps is.
    pub(super) step: Cell<u8>,
    pub(super) option: Cell<bool>,
    /// The handle + 1 that an open fills; the handle that a close ends.
    pub(super) handle: Cell<u32>,
    /// Where an append begins; the entry that was opened.
    pub(super) value: Cell<u64>,
    pub(super) args: Cell<[u32; 2]>,
    /// The second path.
    pub(super) second: Cell<u64>,
}

const _: () = assert!(core::mem::offset_of!(Request, waiter) == 64 && size_of::<Request>() == 128);

impl Request {
    pub(crate) const fn new() -> Self {
        Self {
            next: Cell::new(None),
            home: Cell::new(None),
            state: Cell::new(State::Free),
            ask: Cell::new(Ask::Nothing),
            step: Cell::new(0),
            whole: Cell::new(false),
            option: Cell::new(false),
            vectors: Cell::new(0),
            given_up: Cell::new(false),
            entry: Cell::new(0),
            handle: Cell::new(0),
            offset: Cell::new(0),
            addr: Cell::new(0),
            len: Cell::new(0),
            done: Cell::new(0),
            second: Cell::new(0),
            args: Cell::new([0; 2]),
            buf: Cell::new(0),
            start: Cell::new(0),
            result: Cell::new(0),
            value: Cell::new(0),
            waiter: Waiter::new(),
        }
    }

    /// Whether somebody has claimed it.
    pub(super) fn is_used(&self) -> bool {
        self.state.get() != State::Free
    }

    /// Whether its owner has it.
    pub(super) fn is_away(&self) -> bool {
        self.state.get() == State::Away
    }
}

impl Io {
    /// 1: claims a free request, where there is one that nobody waits for.
    #[inline]
    pub(crate) fn claim_request(&self) -> Option<&'static Request> {
        if self.files.request_waiters.is_empty() { self.pop_request() } else { None }
    }

    #[inline]
    fn pop_request(&self) -> Option<&'static Request> {
        let request = self.files.free_request.get()?;
        self.files.free_request.set(request.next.get());
        self.files.used.requests.rise();
        request.state.set(State::Taken);
        Some(request)
    }

    /// 1: claims a free request; waits while all are taken.
    #[inline]
    pub(crate) fn poll_request(
        &'static self,
        node: Pin<&WaitNode>,
        cx: &Context<'_>,
    ) -> Poll<&'static Request> {
        let files = &self.files;
        if node.has_turn(&files.request_waiters)
            && let Some(request) = self.pop_request()
        {
            node.leave();
            return Poll::Ready(request);
        }
        if !node.is_waiting() {
            self.counters().file_waits.add(1);
            files.used.requests.waited();
        }
        node.wait(&files.request_waiters, self.tasks(), cx);
        Poll::Pending
    }

    /// Wakes one more of those who wait for a request or a handle, where one is free: the one woken
    /// before may have been given up, or forgotten. Tells whether there was one.
    #[inline]
    pub(crate) fn nudge_files(&self) -> bool {
        let files = &self.files;
        let request = files.free_request.get().is_some()
            && !files.request_waiters.is_empty()
            && files.request_waiters.wake_one(self.tasks());
        let handle = files.free_handle.get() != 0
            && !files.handle_waiters.is_empty()
            && files.handle_waiters.wake_one(self.tasks());
        request | handle
    }

    /// Writes what is asked into a claimed request, which holds the buffers from here on.
    #[inline(always)]
    pub(crate) fn fill(
        &'static self,
        request: &'static Request,
        entry: u32,
        asked: Asked,
        data: Data<'_>,
    ) {
        request.ask.set(asked.ask);
        request.step.set(0);
        request.entry.set(entry);
        request.offset.set(asked.offset);
        request.len.set(asked.len);
        request.done.set(0);
        request.whole.set(asked.whole);
        request.option.set(asked.option);
        request.args.set(asked.args);
        request.vectors.set(0);
        match data {
            Data::Nothing => {}
            Data::Into(view, most) => {
                let (at, room) = (view.end, self.bufs.size() - view.end);
                request.addr.set(self.bufs.addr(view.index) as u64 + u64::from(at));
                request.len.set((most as u64).min(room.into()));
                request.buf.set(view.index + 1);
                request.start.set(view.start);
            }
            Data::From(Out::Static(bytes)) => {
                request.addr.set(bytes.as_ptr() as u64);
                request.len.set(bytes.len() as u64);
            }
            Data::From(Out::Buf(buf)) => {
                assert!(ptr::eq(buf.store(), &self.bufs), "a buffer of another worker");
                let (index, bytes, len) = buf.into_parts();
                request.addr.set(bytes as u64);
                request.len.set(len.into());
                request.buf.set(index + 1);
            }
            Data::Paths(paths, second) => {
                request.addr.set(paths.as_ptr() as u64);
                request.second.set(paths[second..].as_ptr() as u64);
                request.buf.set(paths.into_parts().index + 1);
            }
            Data::IntoMany(list, bufs) => {
                let pieces = bufs.map(|buf| {
                    assert!(ptr::eq(buf.store(), &self.bufs), "a buffer of another worker");
                    let view = buf.into_parts();
                    let addr = self.bufs.addr(view.index) as u64 + u64::from(view.end);
                    let len = u64::from(self.bufs.size() - view.end);
                    Piece { addr, len, buf: view.index, start: view.start }
                });
                self.describe(request, list, pieces);
            }
            Data::FromMany(list, bufs) => {
                let pieces = bufs.map(|buf| {
                    assert!(ptr::eq(buf.store(), &self.bufs), "a buffer of another worker");
                    let (index, bytes, len) = buf.into_parts();
                    Piece { addr: bytes as u64, len: len.into(), buf: index, start: 0 }
                });
                self.describe(request, list, pieces);
            }
        }
    }

    /// 2: hands a filled request to the owner of what it is about.
    #[inline]
    pub(crate) fn post(&'static self, request: &'static Request, owner: &'static Self) {
        request.state.set(State::Away);
        if ptr::eq(self, owner) {
            self.begin(request);
        } else {
            owner.mail(request);
        }
    }

    /// Sends a request to this worker, from another.
    #[inline(never)]
    fn mail(&self, request: &'static Request) {
        self.files.mailbox.push(request);
        self.tasks().ring_bell();
    }

    /// Takes what came from other workers: requests to carry out, and answers.
    pub(crate) fn take_mail(&'static self) {
        if self.files.mailbox.is_empty() {
            return;
        }
        let mail = self.files.mailbox.take();
        while let Some(request) = mail.pop() {
            match request.home.get() {
                Some(home) if ptr::eq(home, self) => self.answered(request),
                _ => self.begin(request),
            }
        }
    }

    /// The owner is done with a request.
    #[inline]
    pub(super) fn answer(&'static self, request: &'static Request, result: i32) {
        request.result.set(result);
        match request.home.get() {
            Some(home) if !ptr::eq(home, self) => home.mail(request),
            _ => self.answered(request),
        }
    }

    /// 3: a request is back.
    #[inline]
    fn answered(&'static self, request: &'static Request) {
        request.state.set(State::Done);
        if request.given_up.get() {
            self.end_given_up(request);
        } else {
            request.waiter.wake(self.tasks());
        }
    }

    #[cold]
    fn end_given_up(&'static self, request: &'static Request) {
        if request.ask.get() == Ask::Open {
            self.open_given_up(request);
        }
        self.end_request(request);
    }

    /// The answer, once it is there.
    #[inline]
    pub(crate) fn poll_answer(&self, request: &'static Request, cx: &Context<'_>) -> Poll<Answer> {
        if request.state.get() != State::Done {
            request.waiter.register(self.tasks(), cx);
            return Poll::Pending;
        }
        Poll::Ready(Answer {
            result: request.result.get(),
            done: request.done.get(),
            value: request.value.get(),
            aligns: request.args.get(),
        })
    }

    /// The buffer that was read into, with the bytes that came in view.
    #[inline]
    pub(crate) fn take_buffer(&'static self, request: &'static Request) -> Option<BufMut> {
        let buf = request.buf.replace(0).checked_sub(1)?;
        let end = request.addr.get() + request.done.get() - self.bufs.addr(buf) as u64;
        let (start, end) = (request.start.get(), end as u32);
        Some(BufMut::adopt(&self.bufs, buf, start, end - start))
    }

    /// Gives each buffer of a request of many to `each`, with the bytes that came.
    pub(crate) fn take_buffers(
        &'static self,
        request: &'static Request,
        mut each: impl FnMut(BufMut),
    ) {
        let Some(list) = request.buf.get().checked_sub(1) else { return };
        let mut left = request.done.get();
        let count = request.vectors.replace(0);
        for nth in 0..count {
            let Piece { addr, len, buf, start } = vectored::piece(&self.bufs, list, count, nth);
            let end = (addr - self.bufs.addr(buf) as u64) as u32;
            let came = left.min(len);
            left -= came;
            each(BufMut::adopt(&self.bufs, buf, start, end - start + came as u32));
        }
    }

    /// What `statx` wrote.
    pub(crate) fn stat_of(&self, request: &'static Request) -> libc::statx {
        super::entry::stat_at(request)
    }

    /// 4: the answer was taken, or nobody wants it: lets go of the buffers that are left.
    #[inline]
    pub(crate) fn end_request(&'static self, request: &'static Request) {
        debug_assert!(matches!(request.state.get(), State::Done | State::Taken));
        if request.buf.get() != 0 {
            self.let_go(request);
        }
        request.state.set(State::Free);
        request.given_up.set(false);
        request.waiter.clear();
        if request.ask.get() == Ask::Close {
            return self.free_handle(request.handle.get()); // its own request, which closes it
        }
        let files = &self.files;
        files.used.requests.fall();
        request.next.set(files.free_request.replace(Some(request)));
        if !files.request_waiters.is_empty() {
            files.request_waiters.wake_one(self.tasks());
        }
    }

    /// Lets go of the buffers that nobody took.
    #[inline(never)]
    fn let_go(&'static self, request: &'static Request) {
        if request.vectors.get() > 0 {
            self.take_buffers(request, drop);
        }
        if let Some(buf) = request.buf.replace(0).checked_sub(1) {
            self.bufs.release(buf);
        }
    }

    /// Nobody waits any more: what is on its way goes on, and its buffers are let go then.
    pub(crate) fn give_up(&'static self, request: &'static Request) {
        match request.state.get() {
            State::Free => {}
            State::Away => {
                request.waiter.clear();
                request.given_up.set(true);
            }
            State::Taken => self.end_request(request),
            State::Done => self.end_given_up(request),
        }
    }
}
