//! Receiving in user space: received buffers in, plaintext out.

use alloc::vec::Vec;

use super::tx::Need;
use super::{Found, State};
use crate::buf::{Buf, BufMut};
use crate::error::Result;
use crate::net::Socket;
use crate::tls::TlsError;
use crate::tls::handshake::record_len;
use crate::tls::session::Event;

/// Bytes of records that a message which is not whole may hold, as in a handshake: rustls keeps all of
/// a message's records until its last, padding among them.
const UNREAD_MAX: usize = 128 * 1024;

/// What has been received and not handed out.
pub(super) struct Rx {
    /// Records not consumed yet: a part of one, or of a handshake message that spans several.
    unread: Vec<u8>,
    /// Plaintext that found no room in its received buffer, from `spilt_at` on.
    spilt: Vec<u8>,
    spilt_at: usize,
    /// Plaintext of which a part was taken.
    ready: Option<Buf>,
    /// The peer sent close_notify.
    closed: bool,
}

impl Rx {
    pub(super) fn new(unread: Vec<u8>, closed: bool) -> Self {
        Self { unread, spilt: Vec::new(), spilt_at: 0, ready: None, closed }
    }

    /// What was fed to rustls and not consumed.
    pub(super) fn unread(&mut self) -> &mut [u8] {
        &mut self.unread
    }

    pub(super) fn give_back(&mut self, buf: Buf) {
        self.ready = Some(buf);
    }

    /// Moves what was spilt into a buffer.
    pub(super) fn pour(&mut self, into: &mut BufMut) {
        self.spilt_at += into.put_some(&self.spilt[self.spilt_at..]);
        if self.spilt_at == self.spilt.len() {
            (self.spilt, self.spilt_at) = (Vec::new(), 0);
        }
    }
}

/// Keeps the begin of a record in `unread`, which is empty. Where most of the record is there, with room
/// for all of it, so that the rest allocates nothing; a peer that says little gets little.
fn begin_record(unread: &mut Vec<u8>, begin: &[u8]) {
    if let Some(len) = record_len(begin, 0)
        && begin.len() >= len / 2
    {
        unread.reserve_exact(len);
    }
    unread.extend_from_slice(begin);
}

impl State {
    /// What there is without receiving: data in order, then the end, then the failure.
    pub(super) fn find(&mut self, socket: Socket, idle: bool) -> Result<Found> {
        if let Some(buf) = self.rx.ready.take() {
            return Ok(Found::Data(buf));
        }
        if !self.rx.spilt.is_empty() {
            return Ok(Found::NeedsBuffer);
        }
        if self.rx.closed {
            return Ok(Found::End);
        }
        if let Some(failed) = self.failed {
            return Err(failed.into());
        }
        if idle && self.rx.unread.is_empty() && self.rx.unread.capacity() > 0 {
            socket.keep_spare(core::mem::take(&mut self.rx.unread));
        }
        Ok(Found::Nothing)
    }

    /// Decrypts what arrived. The plaintext takes the buffer's place.
    pub(super) fn decrypt(&mut self, socket: Socket, raw: Buf) -> Option<Buf> {
        let mut buf = match raw.try_mut() {
            Ok(buf) if self.rx.unread.is_empty() => return self.decrypt_in_place(socket, buf),
            Ok(buf) => buf,
            Err(raw) => {
                self.rx.unread.extend_from_slice(&raw);
                self.decrypt_unread();
                return None; // what came of it was spilt
            }
        };
        self.rx.unread.extend_from_slice(&buf);
        buf.clear();
        let mut unread = core::mem::take(&mut self.rx.unread);
        let consumed = self.feed(&mut unread, |spilt, _, plain| {
            let n = if spilt.is_empty() { buf.put_some(plain) } else { 0 };
            spilt.extend_from_slice(&plain[n..]);
        });
        self.keep(unread, consumed);
        (!buf.is_empty()).then(|| buf.freeze())
    }

    fn decrypt_in_place(&mut self, socket: Socket, mut buf: BufMut) -> Option<Buf> {
        let mut written = 0;
        // A record is longer than its plaintext, so this is always behind what is read.
        let consumed = self.feed(&mut buf, |spilt, done, plain| {
            let n = if spilt.is_empty() { plain.len().min(done.len() - written) } else { 0 };
            done[written..written + n].copy_from_slice(&plain[..n]);
            written += n;
            spilt.extend_from_slice(&plain[n..]);
        });
        let mut unread = core::mem::take(&mut self.rx.unread);
        if consumed < buf.len() && unread.capacity() == 0 {
            unread = socket.take_spare();
        }
        begin_record(&mut unread, &buf[consumed..]);
        self.keep(unread, 0);
        buf.truncate(written);
        (written > 0).then(|| buf.freeze())
    }

    /// Decrypts what is not consumed yet, with nowhere to put the plaintext but the heap.
    pub(super) fn decrypt_unread(&mut self) {
        let mut unread = core::mem::take(&mut self.rx.unread);
        let consumed = self.feed(&mut unread, |spilt, _, plain| spilt.extend_from_slice(plain));
        self.keep(unread, consumed);
    }

    /// Keeps what of `unread` is not consumed, if that is no more than an honest peer leaves.
    fn keep(&mut self, mut unread: Vec<u8>, consumed: usize) {
        unread.drain(..consumed);
        if unread.len() <= UNREAD_MAX {
            self.rx.unread = unread;
        } else {
            self.failed = Some(TlsError::Storm);
        }
    }

    /// Lets rustls have all whole records. `take` gets the heap's part, the bytes that are done with,
    /// and the plaintext of one record. Returns how many bytes are done with.
    fn feed(
        &mut self,
        records: &mut [u8],
        mut take: impl FnMut(&mut Vec<u8>, &mut [u8], &[u8]),
    ) -> usize {
        let mut consumed = 0;
        while !self.rx.closed && self.failed.is_none() {
            let step = self.session.step(&mut records[consumed..], self.tx.control());
            consumed += step.consumed;
            match step.event {
                Ok(Event::Data) => {
                    let (spilt, done) = (&mut self.rx.spilt, &mut records[..consumed]);
                    self.session.take_plain(|plain| take(spilt, done, plain));
                    if consumed == records.len() && !self.session.wants_to_send() {
                        return consumed; // rustls gives out one record at once, and that was the last
                    }
                }
                Ok(Event::Closed) => self.rx.closed = true,
                Ok(Event::Open | Event::Handshaking) => return consumed,
                Err(error) => self.failed = Some(error),
            }
        }
        // Nothing behind the end counts.
        records.len()
    }

    /// Sends what rustls answers, as far as it can without waiting. Tells whether there was any.
    pub(super) fn answer(&mut self, socket: Socket) -> bool {
        let answers = !self.tx.control().is_empty();
        answers && self.drain(socket, &mut None) == Need::Nothing
    }
}
