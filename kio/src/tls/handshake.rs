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
use crate::error::Result;
use crate::net::Socket;

/// Bytes of a handshake, from the peer: certificate chains with room to spare.
const BYTES_MAX: usize = 128 * 1024;
/// Records of it: an honest one has fewer than ten, or thirty where a chain is cut small.
const RECORDS_MAX: usize = 256;
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

/// Shakes hands, at most until the deadline.
pub(super) async fn shake(socket: Socket, session: Session, terms: Terms) -> Result<Done> {
    let shaking = Handshake::new(socket, session).run(terms.keep_certificates);
    match socket.core.timeout(terms.deadline, shaking).await {
        Ok(done) => done,
        Err(_) => Err(TlsError::HandshakeLate.into()),
    }
}

struct Handshake {
    socket: Socket,
    session: Session,
    /// Received and not consumed.
    records: Vec<u8>,
    /// Where in `records` the next record begins that is not counted yet.
    next: usize,
    seen: usize,
    bytes: usize,
    /// To be sent.
    out: Vec<u8>,
    sni: Option<Box<str>>,
}

impl Handshake {
    fn new(socket: Socket, session: Session) -> Self {
        let (records, out) = (Vec::new(), Vec::new());
        Self { socket, session, records, next: 0, seen: 0, bytes: 0, out, sni: None }
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
                self.socket.push_copy(&self.out).await?;
                self.socket.flush().await?;
                self.out.clear();
            }
            if event == Event::Handshaking {
                self.receive().await?;
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
        let Some(received) = self.socket.recv(false).await? else {
            return Err(TlsError::HandshakeEnded.into());
        };
        self.records.extend_from_slice(&received);
        self.bytes += received.len();
        while let Some([_, _, _, high, low]) = self.records.get(self.next..self.next + 5) {
            self.seen += 1;
            self.next += 5 + usize::from(u16::from_be_bytes([*high, *low]));
        }
        if self.bytes > BYTES_MAX || self.seen > RECORDS_MAX {
            return Err(TlsError::HandshakeTooLong.into());
        }
        Ok(())
    }

    /// Sends the alert, ends the write side, and gives the peer a moment to read it.
    async fn refuse(self, error: TlsError) -> Result<Done> {
        let Self { socket, out, mut bytes, .. } = self;
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
