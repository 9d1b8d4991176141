//! Sending in user space: plaintext is staged, sealed into records, and given to the socket's outbox.
//!
//! ```text
//!  push -> staged ---seal---> sealed ---\
//!                                        +--> the socket's outbox, in the order of their encryption
//!  rustls' own answers -----> control --/
//! ```
//!
//! What is pushed in parts is staged together, so that small parts make one record. Sealing needs no
//! further pool buffer that it would have to wait for: it goes behind the plaintext in its own buffer
//! where there is room, else into a free one, else onto the heap and from there into the plaintext's
//! buffer. So senders that wait for buffers hold none.

use alloc::vec::Vec;

use super::State;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::net::{Out, Socket};
use crate::tls::TlsError;
use crate::tls::session::Sealed;

/// Plaintext of one record at most.
const RECORD_MAX: usize = 16 * 1024;
/// What a record adds to its plaintext, and a key update of rustls' that may go before it.
pub(in crate::tls) const OVERHEAD: usize = 32 + 64;
/// Buffers smaller than this hold a small record all the same, by way of the heap.
const CHUNK_MIN: usize = 64;

/// What has been pushed and is not in the socket's outbox yet.
pub(super) struct Tx {
    staged: Option<Staged>,
    /// Encrypted, and so next of all: records are numbered.
    sealed: Option<Buf>,
    /// Encrypted as well, behind `sealed`.
    control: Vec<u8>,
    /// close_notify was sealed: nothing may follow.
    closed: bool,
}

enum Staged {
    Whole(Out),
    Copied(BufMut),
}

/// What a send waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    Nothing,
    /// A pool buffer.
    Buffer,
    /// The socket's outbox is full.
    Room,
}

impl Tx {
    pub(super) fn new() -> Self {
        Self { staged: None, sealed: None, control: Vec::new(), closed: false }
    }

    /// Where rustls' own answers go.
    pub(super) fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

impl Staged {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(Out::Buf(buf)) => buf,
            Self::Whole(Out::Static(bytes)) => bytes,
            Self::Copied(buf) => buf,
        }
    }

    /// Leaves the first `n` bytes away; nothing where those are all.
    fn without(self, n: usize) -> Option<Self> {
        if n == self.bytes().len() {
            return None;
        }
        Some(match self {
            Self::Whole(Out::Buf(mut buf)) => {
                buf.advance(n);
                Self::Whole(Out::Buf(buf))
            }
            Self::Whole(Out::Static(bytes)) => Self::Whole(Out::Static(&bytes[n..])),
            Self::Copied(mut buf) => {
                buf.consume(n);
                Self::Copied(buf)
            }
        })
    }
}

/// Plaintext of one record, so that the record fits a buffer.
fn chunk(socket: Socket) -> usize {
    socket.buffer_size().saturating_sub(OVERHEAD).clamp(CHUNK_MIN, RECORD_MAX)
}

impl State {
    /// Whether the write side still takes bytes.
    fn writable(&self, socket: Socket) -> Result<()> {
        if let Some(failed) = self.failed {
            return Err(failed.into());
        }
        if self.tx.closed {
            return Err(Error::WriteClosed);
        }
        socket.writable()
    }

    /// Takes `out` into the stage; `Nothing` once it is there.
    pub(super) fn stage(
        &mut self,
        socket: Socket,
        out: &mut Option<Out>,
        spare: &mut Option<BufMut>,
    ) -> Result<Need> {
        self.writable(socket)?;
        let Some(next) = out.take_if(|out| !out.is_empty()) else {
            *out = None;
            return Ok(Need::Nothing);
        };
        let len = next.len();
        let next = Staged::Whole(next);
        match self.join(socket, next.bytes(), spare) {
            Joined::All => return Ok(Need::Nothing),
            Joined::Empty => {
                self.tx.staged = Some(next);
                return Ok(Need::Nothing);
            }
            Joined::Full => {}
        }
        // No room behind what is staged: that goes first, as a record of its own.
        let need = self.send_on(socket, spare);
        if need == Ok(Need::Nothing) {
            debug_assert!(len > 0);
            self.tx.staged = Some(next);
        } else if let Staged::Whole(next) = next {
            *out = Some(next);
        }
        need
    }

    /// Takes `out` into the stage, if it is not there yet, and gives all of it to the socket.
    pub(super) fn stage_and_send(
        &mut self,
        socket: Socket,
        out: &mut Option<Out>,
        spare: &mut Option<BufMut>,
    ) -> Result<Need> {
        if out.is_some() {
            match self.stage(socket, out, spare)? {
                Need::Nothing => {}
                need => return Ok(need),
            }
        }
        self.send_on(socket, spare)
    }

    /// Copies bytes into the stage; `Nothing` once all are there.
    pub(super) fn stage_copy(
        &mut self,
        socket: Socket,
        bytes: &mut &[u8],
        spare: &mut Option<BufMut>,
    ) -> Result<Need> {
        self.writable(socket)?;
        while !bytes.is_empty() {
            let part = &bytes[..bytes.len().min(chunk(socket))];
            match self.join(socket, part, spare) {
                Joined::All => {}
                Joined::Full => match self.send_on(socket, spare)? {
                    Need::Nothing => continue,
                    need => return Ok(need),
                },
                Joined::Empty => {
                    let Some(mut buf) = spare.take().or_else(|| socket.core.try_buf()) else {
                        return Ok(Need::Buffer);
                    };
                    let n = buf.put_some(part);
                    self.tx.staged = Some(Staged::Copied(buf));
                    *bytes = &bytes[n..];
                    continue;
                }
            }
            *bytes = &bytes[part.len()..];
        }
        Ok(Need::Nothing)
    }

    /// Copies bytes behind what is staged, all or none.
    fn join(&mut self, socket: Socket, bytes: &[u8], spare: &mut Option<BufMut>) -> Joined {
        let Some(staged) = &mut self.tx.staged else { return Joined::Empty };
        if staged.bytes().len() + bytes.len() > chunk(socket) {
            return Joined::Full;
        }
        if let Staged::Whole(first) = staged {
            let Some(mut buf) = spare.take().or_else(|| socket.core.try_buf()) else {
                return Joined::Full;
            };
            let all = match first {
                Out::Buf(first) => buf.put(first).is_ok(),
                Out::Static(first) => buf.put(first).is_ok(),
            };
            if !all {
                return Joined::Full;
            }
            *staged = Staged::Copied(buf);
        }
        let Staged::Copied(buf) = staged else { return Joined::Full };
        if buf.spare() < bytes.len() {
            buf.compact();
        }
        if buf.put(bytes).is_ok() { Joined::All } else { Joined::Full }
    }

    /// Seals what is staged and gives it to the socket, as far as that takes it.
    pub(super) fn send_on(&mut self, socket: Socket, spare: &mut Option<BufMut>) -> Result<Need> {
        loop {
            match self.drain(socket, spare) {
                Need::Nothing => {}
                need => return Ok(need),
            }
            let Some(staged) = self.tx.staged.take() else { return Ok(Need::Nothing) };
            if let Some(failed) = self.failed {
                return Err(failed.into());
            }
            if self.session.wants_to_send() {
                self.tx.staged = Some(staged);
                self.collect();
                continue;
            }
            match self.seal(socket, staged, spare) {
                Ok(rest) => self.tx.staged = rest,
                Err(error) => return Err(self.used_up(socket, error)),
            }
        }
    }

    /// The keys protect no more: rustls has close_notify ready, the last record.
    #[cold]
    fn used_up(&mut self, socket: Socket, error: Error) -> Error {
        if let Error::Tls(failed) = error {
            self.collect();
            self.failed = Some(failed);
            self.drain(socket, &mut None);
        }
        error
    }

    /// Takes what rustls itself has to send.
    fn collect(&mut self) {
        // What is unread holds nothing whole, so this consumes nothing.
        let step = self.session.step(self.rx.unread(), &mut self.tx.control);
        debug_assert_eq!(step.consumed, 0);
        if let Err(error) = step.event {
            self.failed = Some(error);
        }
    }

    /// Seals one record of what is staged, and gives back the rest.
    fn seal(
        &mut self,
        socket: Socket,
        staged: Staged,
        spare: &mut Option<BufMut>,
    ) -> Result<Option<Staged>> {
        let len = staged.bytes().len().min(chunk(socket));
        let staged = match staged.into_own(len) {
            Ok(own) => {
                self.seal_behind(own)?;
                return Ok(None);
            }
            Err(staged) => staged,
        };
        let plain = &staged.bytes()[..len];
        let buf = spare.take().or_else(|| socket.core.try_buf());
        if let Some(mut buf) = buf
            && let Sealed::Bytes(n) =
                self.session.seal(self.rx.unread(), plain, buf.parts_mut().1)?
        {
            buf.fill(n);
            self.tx.sealed = Some(buf.freeze());
            return Ok(staged.without(len));
        }
        match staged {
            Staged::Whole(Out::Static(_)) => {
                self.seal_on_heap(plain)?;
                Ok(staged.without(len))
            }
            staged => self.seal_by_heap(socket, staged).map(|()| None),
        }
    }

    /// Seals all of a buffer while none else is free: onto the heap, and back into its own buffer as
    /// far as that goes. So nothing is held while what is too much waits for a buffer.
    #[cold]
    fn seal_by_heap(&mut self, socket: Socket, staged: Staged) -> Result<()> {
        for part in staged.bytes().chunks(chunk(socket)) {
            self.seal_on_heap(part)?;
        }
        let own = match staged {
            Staged::Copied(buf) => Some(buf),
            Staged::Whole(Out::Buf(buf)) => buf.try_mut().ok(),
            Staged::Whole(Out::Static(_)) => None,
        };
        if let Some(mut buf) = own {
            buf.clear();
            let n = buf.put_some(&self.tx.control);
            self.tx.control.drain(..n);
            self.tx.sealed = Some(buf.freeze());
        }
        Ok(())
    }

    /// Seals a record behind what is on the heap already.
    fn seal_on_heap(&mut self, plain: &[u8]) -> Result<()> {
        let end = self.tx.control.len();
        self.tx.control.resize(end + plain.len() + OVERHEAD, 0);
        let sealed = self.session.seal(self.rx.unread(), plain, &mut self.tx.control[end..]);
        let n = if let Ok(Sealed::Bytes(n)) = sealed { n } else { 0 };
        self.tx.control.truncate(end + n);
        match sealed? {
            Sealed::Bytes(_) => Ok(()),
            Sealed::TooSmall => Err(TlsError::Config.into()),
        }
    }

    /// Seals the whole of a buffer into the room behind it.
    fn seal_behind(&mut self, mut buf: BufMut) -> Result<()> {
        let len = buf.len();
        let (plain, room) = buf.parts_mut();
        match self.session.seal(self.rx.unread(), plain, room)? {
            Sealed::Bytes(n) => buf.fill(n),
            Sealed::TooSmall => return Err(TlsError::Config.into()),
        }
        buf.consume(len);
        self.tx.sealed = Some(buf.freeze());
        Ok(())
    }

    /// Gives what is sealed to the socket, in order.
    pub(super) fn drain(&mut self, socket: Socket, spare: &mut Option<BufMut>) -> Need {
        loop {
            if let Some(buf) = self.tx.sealed.take()
                && let Err(Out::Buf(buf)) = socket.try_push(buf.into())
            {
                self.tx.sealed = Some(buf);
                return Need::Room;
            }
            if self.tx.control.is_empty() {
                return Need::Nothing;
            }
            let Some(mut buf) = spare.take().or_else(|| socket.core.try_buf()) else {
                return Need::Buffer;
            };
            let n = buf.put_some(&self.tx.control);
            self.tx.control.drain(..n);
            if self.tx.control.is_empty() {
                self.tx.control = Vec::new();
            }
            self.tx.sealed = Some(buf.freeze());
        }
    }

    /// Seals close_notify, once everything pushed is sealed.
    pub(super) fn close_notify(&mut self) -> Result<()> {
        if self.tx.closed || self.failed.is_some() {
            return Ok(()); // a failure has sent its alert
        }
        if self.session.wants_to_send() {
            self.collect();
        }
        let end = self.tx.control.len();
        self.tx.control.resize(end + OVERHEAD, 0);
        let sealed = self.session.seal_close(self.rx.unread(), &mut self.tx.control[end..]);
        let n = if let Ok(Sealed::Bytes(n)) = sealed { n } else { 0 };
        self.tx.control.truncate(end + n);
        self.tx.closed = true;
        sealed.map(drop).map_err(Into::into)
    }
}

/// How bytes joined what is staged.
enum Joined {
    All,
    /// There is nothing to join.
    Empty,
    /// They do not fit behind it.
    Full,
}

impl Staged {
    /// The buffer, where it is one that nobody else holds, `len` bytes are all of it, and their
    /// record fits behind them.
    fn into_own(self, len: usize) -> core::result::Result<BufMut, Self> {
        if self.bytes().len() > len {
            return Err(self);
        }
        let buf = match self {
            Self::Copied(buf) => buf,
            Self::Whole(Out::Buf(buf)) => match buf.try_mut() {
                Ok(buf) => buf,
                Err(buf) => return Err(Self::Whole(Out::Buf(buf))),
            },
            Self::Whole(out) => return Err(Self::Whole(out)),
        };
        if buf.spare() >= len + OVERHEAD { Ok(buf) } else { Err(Self::Copied(buf)) }
    }
}
