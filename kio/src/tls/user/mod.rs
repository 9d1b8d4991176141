//! The data path in user space: records go through rustls, one allocation each way a record.
//!
//! Ciphertext and plaintext are in pool buffers. A record that arrives whole within one received
//! buffer is decrypted there, and its plaintext takes its place: no further buffer is needed. One
//! that lies across two is put together on the heap, of which a connection then keeps as much as its
//! largest record, until it waits between requests; then its worker keeps it for the next connection.
//!
//! Nothing here waits but in [`User::recv`], [`User::push`] and [`User::flush`], and no borrow is
//! held while they do: what was begun lies in [`State`], so any of them can be given up anywhere.

mod rx;
mod tx;

use alloc::vec::Vec;
use core::cell::RefCell;

use super::error::TlsError;
use super::session::Session;
use crate::buf::{Buf, BufMut};
use crate::error::Result;
use crate::net::{Out, Socket};
use rx::Rx;
pub(super) use tx::OVERHEAD;
use tx::{Need, Tx};

/// A connection whose records rustls does.
pub(super) struct User {
    state: RefCell<State>,
}

/// All of it that both sides of the connection share.
struct State {
    session: Session,
    rx: Rx,
    tx: Tx,
    /// Why the connection is over, if it is.
    failed: Option<TlsError>,
}

/// What a receive finds without waiting.
enum Found {
    Data(Buf),
    End,
    /// Decrypted bytes that want a buffer.
    NeedsBuffer,
    Nothing,
}

impl User {
    /// Goes on where the handshake ended.
    pub(super) fn new(session: Session, unread: Vec<u8>, closed: bool) -> Self {
        let mut state = State { session, rx: Rx::new(unread, closed), tx: Tx::new(), failed: None };
        state.decrypt_unread();
        Self { state: RefCell::new(state) }
    }

    /// See `RecvHalf::recv` and, with `idle`, `RecvHalf::recv_idle`.
    pub(super) async fn recv(&self, socket: Socket, idle: bool) -> Result<Option<Buf>> {
        loop {
            let found = self.state.borrow_mut().find(socket, idle)?;
            match found {
                Found::Data(buf) => return Ok(Some(buf)),
                Found::End => return Ok(None),
                Found::NeedsBuffer => {
                    let mut buf = socket.within_recv_timeout(socket.core.buf()).await??;
                    self.state.borrow_mut().rx.pour(&mut buf);
                    return Ok(Some(buf.freeze()));
                }
                Found::Nothing => {}
            }
            let Some(raw) = socket.recv(idle).await? else {
                if !socket.at_end() {
                    return Ok(None); // the pool stops
                }
                return Err(TlsError::Truncated.into());
            };
            let (plain, answers) = {
                let mut state = self.state.borrow_mut();
                let plain = state.decrypt(socket, raw);
                (plain, state.answer(socket))
            };
            if answers {
                // Given up in here, it must not take with it what was decrypted.
                if let Some(buf) = plain {
                    self.state.borrow_mut().rx.give_back(buf);
                }
                socket.flush_some().await;
            } else if plain.is_some() {
                return Ok(plain);
            }
        }
    }

    /// See `RecvHalf::try_recv`.
    pub(super) fn try_recv(&self, socket: Socket) -> Option<Buf> {
        loop {
            let mut state = self.state.try_borrow_mut().ok()?; // as in `end`
            match state.find(socket, false).ok()? {
                Found::Data(buf) => return Some(buf),
                Found::End => return None,
                Found::NeedsBuffer => {
                    let mut buf = socket.core.try_buf()?;
                    state.rx.pour(&mut buf);
                    return Some(buf.freeze());
                }
                Found::Nothing => {}
            }
            let plain = state.decrypt(socket, socket.try_recv()?);
            let answers = state.answer(socket);
            drop(state);
            if answers {
                socket.start_flush();
            }
            if plain.is_some() {
                return plain;
            }
        }
    }

    /// Lets `take` have received bytes, which tells how many it took; the rest stays.
    pub(super) async fn recv_with(
        &self,
        socket: Socket,
        idle: bool,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Result<usize> {
        let Some(mut buf) = self.recv(socket, idle).await? else { return Ok(0) };
        let n = take(&buf);
        if n < buf.len() {
            buf.advance(n);
            self.state.borrow_mut().rx.give_back(buf);
        }
        Ok(n)
    }

    /// See `SendHalf::push`.
    pub(super) async fn push(&self, socket: Socket, out: Out) -> Result<()> {
        let (mut out, mut spare) = (Some(out), None);
        loop {
            let need = self.state.borrow_mut().stage(socket, &mut out, &mut spare)?;
            if need == Need::Nothing {
                self.send_if_short(socket);
                return Ok(());
            }
            wait(socket, need, &mut spare).await?;
        }
    }

    /// See `SendHalf::try_push`.
    pub(super) fn try_push(&self, socket: Socket, out: Out) -> core::result::Result<(), Out> {
        let Ok(mut state) = self.state.try_borrow_mut() else { return Err(out) }; // as in `end`
        let mut out = Some(out);
        let staged = state.stage(socket, &mut out, &mut None);
        drop(state);
        self.send_if_short(socket);
        match (staged, out) {
            (_, Some(out)) => Err(out),
            _ => Ok(()),
        }
    }

    /// See `SendHalf::push_copy`.
    pub(super) async fn push_copy(&self, socket: Socket, mut bytes: &[u8]) -> Result<()> {
        let mut spare = None;
        loop {
            let need = self.state.borrow_mut().stage_copy(socket, &mut bytes, &mut spare)?;
            if need == Need::Nothing {
                self.send_if_short(socket);
                return Ok(());
            }
            wait(socket, need, &mut spare).await?;
        }
    }

    /// See `SendHalf::flush`.
    pub(super) async fn flush(&self, socket: Socket) -> Result<()> {
        let mut spare = None;
        loop {
            let need = self.state.borrow_mut().send_on(socket, &mut spare)?;
            if need == Need::Nothing {
                return socket.flush().await;
            }
            wait(socket, need, &mut spare).await?;
        }
    }

    /// See `SendHalf::send`: `push` and `flush` at one go.
    pub(super) async fn send(&self, socket: Socket, out: Out) -> Result<()> {
        let (mut out, mut spare) = (Some(out), None);
        loop {
            let need = self.state.borrow_mut().stage_and_send(socket, &mut out, &mut spare)?;
            if need == Need::Nothing {
                return socket.flush().await;
            }
            wait(socket, need, &mut spare).await?;
        }
    }

    /// See `SendHalf::shutdown`.
    pub(super) async fn shutdown(&self, socket: Socket) -> Result<()> {
        self.close_notify(socket).await?;
        socket.shutdown().await
    }

    /// Flushes, then says that nothing more comes.
    pub(super) async fn close_notify(&self, socket: Socket) -> Result<()> {
        if !self.state.borrow().tx.is_closed() {
            self.flush(socket).await?;
        }
        self.state.borrow_mut().close_notify()?;
        self.flush(socket).await
    }

    /// What can be done of it at once, for a send half that is dropped.
    pub(super) fn end(&self, socket: Socket) {
        // What rustls runs of the user's, a store of sessions say, may drop the half in the middle.
        let Ok(mut state) = self.state.try_borrow_mut() else { return };
        if state.send_on(socket, &mut None) == Ok(Need::Nothing) && state.close_notify().is_ok() {
            let _ = state.send_on(socket, &mut None);
        }
    }

    /// Sends what is staged where others wait for buffers.
    fn send_if_short(&self, socket: Socket) {
        if socket.is_short() {
            let _ = self.state.borrow_mut().send_on(socket, &mut None);
            socket.start_flush();
        }
    }
}

/// Waits for what a send lacks; a buffer is put into `spare`.
async fn wait(socket: Socket, need: Need, spare: &mut Option<BufMut>) -> Result<()> {
    if need == Need::Room {
        return socket.flush().await;
    }
    // What waits in the outbox holds buffers: let it go.
    socket.start_flush();
    *spare = Some(socket.within_timeout(socket.core.buf()).await??);
    Ok(())
}
