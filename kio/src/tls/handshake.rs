//! The handshake: records in, records out, bounded in bytes, records and time.
//!
//! It never waits for more than the peer owes, and a peer that breaks the protocol is told so by an
//! alert, with a moment to read it: closing at once, with bytes unread, would reset the connection
//! and take the alert back.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::error::TlsError;
use super::hello;
use super::info::Info;
use super::session::{Event, Session};
use crate::error::{Error, Result};
use crate::net::Socket;
use crate::net::records::Records;

/// Bytes of a handshake, from the peer: certificate chains with room to spare.
const BYTES_MAX: usize = 128 * 1024;
/// Records of it: an honest one has fewer than ten, or thirty where a chain is cut small.
const RECORDS_MAX: usize = 256;
/// Bytes before a record's payload.
const HEAD: usize = 5;
/// Most bytes of a payload: what TLS 1.2 allows a sealed one.
const PAYLOAD_MAX: usize = 16 * 1024 + 2048;
/// A fatal alert, as a record without keys.
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
/// How long a peer that was sent an alert may take to read it.
const LINGER: Duration = Duration::from_millis(500);

/// A handshake that is done.
pub(super) struct Done {
    pub(super) session: Session,
    pub(super) info: Info,
    /// What was received behind it.
    pub(super) unread: Vec<u8>,
    /// The peer has ended its side already.
    pub(super) closed: bool,
}

/// What bounds a handshake, and what is kept of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) deadline: Duration,
    pub(super) keep_certificates: bool,
}

/// Shakes hands, at most until the deadline. With `exact`, no byte behind the handshake is taken off
/// the socket: the kernel is to have it.
pub(super) async fn shake(
    socket: Socket,
    session: Session,
    terms: Terms,
    exact: Option<Records>,
) -> Result<Done> {
    let shaking = Handshake::new(socket, session, exact).run(terms.keep_certificates);
    match socket.core.timeout(terms.deadline, shaking).await {
        Ok(done) => done,
        Err(_) => Err(TlsError::HandshakeLate.into()),
    }
}

struct Handshake {
    socket: Socket,
    session: Session,
    exact: Option<Records>,
    /// Received and not consumed.
    records: Vec<u8>,
    /// Where in `records` the next record begins that is not counted yet.
    next: usize,
    seen: usize,
    bytes: usize,
    /// To be sent.
    out: Vec<u8>,
    /// Something was sent: there may be keys.
    spoken: bool,
    sni: Option<Box<str>>,
}

/// How long the record is that begins there, head included, where its head is.
pub(super) fn record_len(records: &[u8], at: usize) -> Option<usize> {
    let head = records.get(at..at + HEAD)?;
    Some(HEAD + usize::from(u16::from_be_bytes([head[3], head[4]])))
}

/// Whether records of that content type exist: change of cipher, alert, handshake, data.
fn is_record(kind: u8) -> bool {
    (20..=23).contains(&kind)
}

impl Handshake {
    fn new(socket: Socket, session: Session, exact: Option<Records>) -> Self {
        let (records, out) = (Vec::new(), Vec::new());
        Self {
            socket,
            session,
            exact,
            records,
            next: 0,
            seen: 0,
            bytes: 0,
            out,
            spoken: false,
            sni: None,
        }
    }

    async fn run(mut self, keep_certificates: bool) -> Result<Done> {
        loop {
            if self.sni.is_none() && !self.session.is_client() {
                self.sni = hello::server_name(&self.records);
            }
            let step = self.session.step(&mut self.records, &mut self.out);
            self.records.drain(..step.consumed);
            self.next = self.next.saturating_sub(step.consumed);
            let event = match step.event {
                Ok(event) => event,
                Err(error) => return self.refuse(error).await,
            };
            if !self.out.is_empty() {
                // Signatures and key exchanges take 50 to 500 us. Fifty clients' answers at the end of
                // one turn would have all of them wait for the last, and the worker then for them.
                self.socket.computes_long();
                self.socket.push_copy(&self.out).await?;
                self.socket.flush().await?;
                self.out.clear();
                self.spoken = true;
            }
            if event == Event::Handshaking {
                match self.receive().await {
                    Err(Error::Tls(error @ TlsError::HandshakeTooLong)) => {
                        return self.refuse(error).await;
                    }
                    received => received?,
                }
                continue;
            }
            let Some(mut info) = self.session.info(keep_certificates) else {
                return Err(TlsError::Config.into());
            };
            info.sni = self.sni.or(info.sni);
            let closed = event == Event::Closed;
            return Ok(Done { session: self.session, info, unread: self.records, closed });
        }
    }

    async fn receive(&mut self) -> Result<()> {
        let before = self.records.len();
        match self.exact {
            None => {
                if let Some(received) = self.socket.recv(false).await? {
                    self.records.extend_from_slice(&received);
                }
            }
            Some(exact) => self.receive_record(exact).await?,
        }
        if self.records.len() == before {
            return Err(TlsError::HandshakeEnded.into());
        }
        self.bytes += self.records.len() - before;
        while let Some(len) = record_len(&self.records, self.next) {
            self.seen += 1;
            self.next += len;
        }
        if self.bytes > BYTES_MAX || self.seen > RECORDS_MAX {
            return Err(TlsError::HandshakeTooLong.into());
        }
        Ok(())
    }

    /// One record: its head, and then as many bytes as that says. Of what is no record the head alone,
    /// which rustls refuses.
    async fn receive_record(&mut self, exact: Records) -> Result<()> {
        let begin = self.records.len();
        if !self.receive_to(exact, begin + HEAD).await? {
            return Ok(());
        }
        match record_len(&self.records, begin) {
            Some(len) if len <= HEAD + PAYLOAD_MAX && is_record(self.records[begin]) => {
                self.receive_to(exact, begin + len).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Receives until `end` bytes are there; false where the stream ends before.
    async fn receive_to(&mut self, exact: Records, end: usize) -> Result<bool> {
        let mut at = self.records.len();
        self.records.resize(end, 0);
        while at < end {
            let n = exact.read_at_most(&mut self.records[at..]).await;
            match n {
                Ok(0) | Err(_) => {
                    self.records.truncate(at);
                    return n.map(|_| false);
                }
                Ok(n) => at += n,
            }
        }
        Ok(true)
    }

    /// Sends the alert, ends the write side, and gives the peer a moment to read it.
    async fn refuse(self, error: TlsError) -> Result<Done> {
        let Self { socket, mut out, mut bytes, spoken, .. } = self;
        if out.is_empty() && !spoken {
            // rustls has no alert for some of what it cannot read; there are no keys yet.
            out.extend_from_slice(&DECODE_ERROR);
        }
        if !out.is_empty() {
            socket.push_copy(&out).await?;
            socket.shutdown().await?;
            let rest = async {
                while let Ok(Some(more)) = socket.recv(false).await {
                    bytes += more.len();
                    if bytes > BYTES_MAX {
                        break;
                    }
                }
            };
            let _ = socket.core.timeout(LINGER, rest).await;
        }
        Err(error.into())
    }
}
