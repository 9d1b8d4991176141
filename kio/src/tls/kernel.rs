//! The data path in the kernel: data goes the way of plain TCP, with no allocation and no copy more.
//!
//! What is left to do here are the records that are no data: alerts, session tickets, key updates.
//! They come one by one, between data that is taken first, so their order holds.
//!
//! ```text
//!             close_notify                         End
//!  Open ------------------------------> Closed ---------> None
//!    | a fatal alert, what breaks the protocol or the limits; our alert goes out
//!    +---------------------------------> Failed(why)
//!    | the socket's end, with no close_notify
//!    +---------------------------------> Truncated
//! ```

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::error::TlsError;
use super::session::KernelSession;
use super::support::support;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::net::Socket;
use crate::net::records::{Arrived, Record, Records};
use crate::ring::ktls::Version;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;

const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// A key update that asks for none in return.
const UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// Control messages without data between them: key updates (as BoringSSL has it), tickets. (rustls
/// allows as many updates; a server has reasons for two tickets at a time.)
const MESSAGES_MAX: u8 = 32;
/// Warnings in all; BoringSSL's number.
const WARNINGS_MAX: u8 = 4;
/// Bytes of one handshake message, as rustls has it.
const MESSAGE_MAX: usize = 64 * 1024;

/// A connection whose records the kernel does.
pub(super) struct Kernel {
    records: Records,
    state: RefCell<State>,
    failed: Cell<Option<TlsError>>,
    /// The peer sent close_notify.
    closed: Cell<bool>,
    /// Records under one key after which the kernel is asked how many there were.
    soft_limit: u64,
}

struct State {
    session: KernelSession,
    /// What has come of a handshake message that is not whole.
    part: Vec<u8>,
    /// Control messages since the last data.
    messages: u8,
    warnings: u8,
}

impl Kernel {
    /// Goes on with the connection, whose keys are set.
    pub(super) fn new(records: Records, session: KernelSession) -> Self {
        // A margin for what is sent before anybody looks.
        let soft_limit = session.limit / 2;
        let state = State { session, part: Vec::new(), messages: 0, warnings: 0 };
        Self {
            records,
            state: RefCell::new(state),
            failed: Cell::new(None),
            closed: Cell::new(false),
            soft_limit,
        }
    }

    // ---- receiving ----

    /// See `RecvHalf::recv` and, with `idle`, `RecvHalf::recv_idle`.
    pub(super) async fn recv(&self, socket: Socket, idle: bool) -> Result<Option<Buf>> {
        loop {
            if let Some(buf) = self.records.take_data() {
                self.got_data()?;
                return Ok(Some(buf));
            }
            if !self.wait(socket, idle).await? {
                return Ok(None);
            }
        }
    }

    /// See `RecvHalf::try_recv`.
    pub(super) fn try_recv(&self) -> Option<Buf> {
        let buf = self.records.take_data()?;
        self.got_data().ok().map(|()| buf) // else the connection has failed, which `recv` tells
    }

    /// See `RecvHalf::recv_into` and, with `idle`, `RecvHalf::recv_idle_into`.
    pub(super) async fn recv_into(
        &self,
        socket: Socket,
        into: &mut BufMut,
        idle: bool,
    ) -> Result<usize> {
        loop {
            let n = self.records.read_data(into);
            if n > 0 {
                self.got_data()?;
                return Ok(n);
            }
            if !self.wait(socket, idle).await? {
                return Ok(0);
            }
        }
    }

    /// Lets `take` have received bytes, which tells how many it took; the rest stays.
    #[cfg(feature = "embedded-io-async")]
    pub(super) async fn recv_with(
        &self,
        socket: Socket,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Result<usize> {
        loop {
            let n = self.records.copy_data(&mut take);
            if n > 0 {
                self.got_data()?;
                return Ok(n);
            }
            if !self.wait(socket, false).await? {
                return Ok(0);
            }
        }
    }

    /// Data was taken: what is counted between data begins anew.
    fn got_data(&self) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.messages = 0;
        if state.part.is_empty() {
            return Ok(());
        }
        // Data inside of a handshake message.
        self.failed.set(Some(TlsError::Misbehaved));
        Err(TlsError::Misbehaved.into())
    }

    /// Waits until data is there; false at the end of the stream, or of the pool.
    async fn wait(&self, socket: Socket, idle: bool) -> Result<bool> {
        loop {
            if self.closed.get() {
                return Ok(false);
            }
            if let Some(failed) = self.failed.get() {
                return Err(failed.into());
            }
            let arrived = match self.records.wait(idle).await {
                Ok(arrived) => arrived,
                Err(error) => return Err(self.broken(socket, error).await),
            };
            match arrived {
                Arrived::Data => return Ok(true),
                Arrived::End if socket.at_end() => return Err(TlsError::Truncated.into()),
                Arrived::End => return Ok(false),
                Arrived::Record => {
                    let Some(record) = self.records.take_record() else { continue };
                    if let Err((alert, error)) = self.control(record) {
                        self.fail(socket, alert, error).await;
                    }
                }
            }
        }
    }

    /// What the kernel says of records it cannot open; it says so ever after.
    async fn broken(&self, socket: Socket, error: Error) -> Error {
        let (alert, why) = match error {
            Error::Os { errno: libc::EBADMSG, .. } => (BAD_RECORD_MAC, TlsError::Corrupt),
            Error::Os { errno: libc::EMSGSIZE, .. } => (RECORD_OVERFLOW, TlsError::Oversized),
            Error::Os { errno: libc::EINVAL, .. } => (DECODE_ERROR, TlsError::NotTls),
            // A key update that goes on in the next record: new keys begin with that.
            Error::Os { errno: libc::EKEYEXPIRED, .. } => {
                (UNEXPECTED_MESSAGE, TlsError::Misbehaved)
            }
            error => return error,
        };
        self.fail(socket, Some(alert), why).await;
        why.into()
    }

    /// The connection is over; the peer is told by this alert, unless it has said so itself.
    async fn fail(&self, socket: Socket, alert: Option<u8>, why: TlsError) {
        self.failed.set(Some(why));
        let Some(alert) = alert else { return };
        while self.records.queue_record(ALERT, &[2, alert], None) == Ok(false) {
            // A key update of ours goes first, unless the peer does not even read that.
            socket.flush_some().await;
            if self.records.is_sending_record() {
                return;
            }
        }
        socket.flush_some().await;
    }

    // ---- control records ----

    /// Takes a control record, or a part of one.
    fn control(&self, record: Record) -> core::result::Result<(), (Option<u8>, TlsError)> {
        let mut state = self.state.borrow_mut();
        let unexpected = Err((Some(UNEXPECTED_MESSAGE), TlsError::Misbehaved));
        match record.kind {
            // Two bytes: never in parts, as every buffer has room for them.
            ALERT if state.part.is_empty() => self.alert(&mut state, record.bytes()),
            HANDSHAKE if record.bytes().is_empty() => unexpected,
            HANDSHAKE => {
                state.part.extend_from_slice(record.bytes());
                if record.end { self.handshake(&mut state) } else { Ok(()) }
            }
            _ => unexpected,
        }
    }

    fn alert(
        &self,
        state: &mut State,
        alert: &[u8],
    ) -> core::result::Result<(), (Option<u8>, TlsError)> {
        let &[level, code] = alert else { return Err((Some(DECODE_ERROR), TlsError::Misbehaved)) };
        match code {
            CLOSE_NOTIFY => {
                self.closed.set(true);
                Ok(())
            }
            // In TLS 1.3 but one warning is known, and nobody knows what for.
            _ if level == 1
                && (code == USER_CANCELED || state.session.version == Version::Tls12) =>
            {
                state.warnings += 1;
                match state.warnings > WARNINGS_MAX {
                    true => Err((Some(UNEXPECTED_MESSAGE), TlsError::Storm)),
                    false => Ok(()),
                }
            }
            _ => Err((None, TlsError::Alert(code))),
        }
    }

    /// Takes the handshake messages that are whole.
    fn handshake(&self, state: &mut State) -> core::result::Result<(), (Option<u8>, TlsError)> {
        let part = core::mem::take(&mut state.part);
        let mut rest = &part[..];
        while let &[kind, a, b, c, ref more @ ..] = rest {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > MESSAGE_MAX {
                return Err((Some(DECODE_ERROR), TlsError::Oversized));
            }
            let Some((body, behind)) = more.split_at_checked(len) else { break };
            state.messages += 1;
            if state.messages > MESSAGES_MAX {
                return Err((Some(UNEXPECTED_MESSAGE), TlsError::Storm));
            }
            self.message(state, kind, body, behind.is_empty())?;
            rest = behind;
        }
        state.part = rest.to_vec(); // most often nothing, which allocates nothing
        Ok(())
    }

    fn message(
        &self,
        state: &mut State,
        kind: u8,
        body: &[u8],
        last: bool,
    ) -> core::result::Result<(), (Option<u8>, TlsError)> {
        let client = state.session.is_client();
        match (state.session.version, kind) {
            (Version::Tls13, NEW_SESSION_TICKET) if client => {
                state.session.keep_ticket(body).map_err(|error| (Some(DECODE_ERROR), error))
            }
            // New keys begin with the next record, so nothing may share this one.
            (Version::Tls13, KEY_UPDATE) if last => self.key_update(state, body),
            (Version::Tls12, HELLO_REQUEST) if client => self.no_renegotiation(state),
            (Version::Tls12, CLIENT_HELLO) if !client => self.no_renegotiation(state),
            _ => Err((Some(UNEXPECTED_MESSAGE), TlsError::Misbehaved)),
        }
    }

    fn no_renegotiation(
        &self,
        state: &mut State,
    ) -> core::result::Result<(), (Option<u8>, TlsError)> {
        state.warnings += 1;
        if state.warnings > WARNINGS_MAX {
            return Err((Some(UNEXPECTED_MESSAGE), TlsError::Storm));
        }
        let _ = self.records.queue_record(ALERT, &[1, NO_RENEGOTIATION], None);
        Ok(())
    }

    /// The peer changes its keys, and may ask for ours to change.
    fn key_update(
        &self,
        state: &mut State,
        body: &[u8],
    ) -> core::result::Result<(), (Option<u8>, TlsError)> {
        let wanted = match body {
            [0] => false,
            [1] => true,
            _ => return Err((Some(DECODE_ERROR), TlsError::Misbehaved)),
        };
        if !support().rekey {
            return Err((Some(INTERNAL_ERROR), TlsError::NoKeyUpdate));
        }
        let failed = |error| (Some(INTERNAL_ERROR), error);
        let next = state.session.next_recv().map_err(failed)?;
        match next.lend(|keys| self.records.set_recv_keys(keys)) {
            Some(Ok(())) => {}
            refused => {
                log::warn!("TLS: the kernel refused new keys: {refused:?}");
                return Err(failed(TlsError::NoKeyUpdate));
            }
        }
        if wanted { self.update_send_keys(state).map_err(failed) } else { Ok(()) }
    }

    /// Sends a key update, and all that follows under new keys. Nothing where one is on its way: it
    /// answers this request too. Nor where nothing is sent any more.
    fn update_send_keys(&self, state: &mut State) -> core::result::Result<(), TlsError> {
        if self.records.is_sending_record() {
            return Ok(());
        }
        let next = state.session.next_send()?;
        match next.lend(|keys| self.records.queue_record(HANDSHAKE, &UPDATE, Some(keys))) {
            Some(_) => Ok(()),
            None => Err(TlsError::NoKeyUpdate),
        }
    }

    // ---- sending ----

    /// Whether more may be sent; before data is pushed. Changes the keys in time.
    #[inline]
    pub(super) fn may_send(&self) -> Result<()> {
        if self.failed.get().is_none() && self.records.sealed() < self.soft_limit {
            return Ok(());
        }
        self.may_send_on()
    }

    #[cold]
    fn may_send_on(&self) -> Result<()> {
        if let Some(failed) = self.failed.get() {
            return Err(failed.into());
        }
        // `sealed` counts from above.
        if self.records.send_sequence()? < self.soft_limit {
            return Ok(());
        }
        let mut state = self.state.borrow_mut();
        if state.session.version == Version::Tls13 && support().rekey {
            return self.update_send_keys(&mut state).map_err(Into::into);
        }
        // In order: what was pushed goes out, then close_notify.
        let _ = self.records.end();
        self.failed.set(Some(TlsError::KeysUsedUp));
        Err(TlsError::KeysUsedUp.into())
    }

    /// See `SendHalf::shutdown`.
    pub(super) async fn shutdown(&self) -> Result<()> {
        self.records.shutdown().await
    }

    /// Begins that, for a send half that is dropped.
    pub(super) fn end(&self) {
        let _ = self.records.end();
    }
}
