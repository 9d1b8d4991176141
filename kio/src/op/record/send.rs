//! Control records that are sent, each by the send's own slot.

use core::task::{Context, Poll};

use super::{
    ALERT, BYTES_MAX, CLOSE_NOTIFY, CONTROL_LEN, CONTROL_SIZE, Control, DATA_MAX, SET_RECORD_TYPE,
};
use crate::error::{Error, Result};
use crate::op::Io;
use crate::op::socket::{Socket, State, control_op, flag, send_op};
use crate::ring::Sqe;
use crate::ring::ktls::{self, Direction, Keys, Refused, SOL_TLS};
use crate::ring::sys::clear_error;

impl Socket {
    /// Of what is to be sent a control record is first: it comes before data, close_notify after it.
    pub(in crate::op) fn record_is_next(&self) -> bool {
        self.has(flag::RECORD_OUT) || self.outbox.len.get() == 0
    }
}

impl Io {
    /// Queues a control record, to go out before the data that is not in flight. `then` are the keys
    /// of what follows it, set when it is out. False where one is queued already.
    pub(crate) fn queue_record(
        &self,
        at: u32,
        kind: u8,
        bytes: &[u8],
        then: Option<&Keys<'_>>,
    ) -> Result<bool> {
        let socket = self.socket(at);
        socket.writable()?;
        if socket.has(flag::RECORD_OUT) {
            return Ok(false);
        }
        if bytes.is_empty() || bytes.len() > BYTES_MAX {
            return Err(Error::Other("a control record to send has 1 to 16 bytes"));
        }
        let described = socket.records.with_tx(|tx| {
            tx.kind = kind;
            tx.len = bytes.len() as u8;
            tx.bytes[..bytes.len()].copy_from_slice(bytes);
            then.is_none_or(|keys| tx.then.write(keys))
        });
        if !described {
            return Err(Refused::NoCipher.into());
        }
        socket.set(flag::RECORD_OUT);
        self.start_send(at, socket);
        Ok(true)
    }

    /// Whether a control record is queued or in flight, close_notify included.
    pub(crate) fn is_sending_record(&self, at: u32) -> bool {
        self.socket(at).has_record()
    }

    /// Whether no record waits to go out, nor close_notify; the caller is woken when one is out.
    #[cfg(test)]
    pub(crate) fn poll_records_sent(&self, at: u32, cx: &Context<'_>) -> Poll<Result<()>> {
        let socket = self.socket(at);
        if let Some(failed) = self.send_failure(at, socket) {
            return Poll::Ready(Err(failed));
        }
        if !socket.has_record() {
            return Poll::Ready(Ok(()));
        }
        self.flush(at, socket, cx);
        Poll::Pending
    }

    /// Why sending failed, once nothing is in flight.
    fn send_failure(&self, at: u32, socket: &Socket) -> Option<Error> {
        if socket.state.get() != State::Open {
            return Some(Error::Stopped);
        }
        let failed = socket.tx_error.get() != 0 && !self.is_busy(send_op(at));
        failed.then(|| socket.send_error())
    }

    /// Ends the write side: what was pushed goes out, then close_notify where there are keys, then
    /// the peer is told at the socket. All in the background.
    pub(crate) fn end_records(&self, at: u32) -> Result<()> {
        let socket = self.socket(at);
        socket.writable()?;
        socket.set(flag::WRITE_CLOSED | flag::SHUT_PENDING);
        if socket.has(flag::TLS_SEND) {
            socket.set(flag::NOTIFY);
        }
        self.start_send(at, socket);
        self.shut_if_pending(at, socket);
        Ok(())
    }

    /// How that ended; the caller is woken as it goes on.
    pub(crate) fn poll_ended(&self, at: u32, cx: &Context<'_>) -> Poll<Result<()>> {
        let socket = self.socket(at);
        if let Some(failed) = self.send_failure(at, socket) {
            return Poll::Ready(Err(failed));
        }
        if !socket.has(flag::SHUT_PENDING) && !self.is_busy(control_op(at)) {
            return Poll::Ready(match socket.control.get() {
                0.. => Ok(()),
                errno => Err(Error::os("shutdown", -errno)),
            });
        }
        socket.control_waiter.register(self.tasks(), cx);
        socket.tx_waiter.register(self.tasks(), cx);
        Poll::Pending
    }

    pub(in crate::op) fn record_send_sqe(&self, at: u32) -> Sqe {
        let socket = self.socket(at);
        let is_notify = !socket.has(flag::RECORD_OUT);
        let message = socket.records.with_tx(|tx| {
            let (kind, bytes) = match is_notify {
                true => (ALERT, &CLOSE_NOTIFY[..]),
                false => (tx.kind, &tx.bytes[..usize::from(tx.len)]),
            };
            tx.entry.base.set(bytes.as_ptr());
            tx.entry.len.set(bytes.len());
            tx.control = Control {
                len: CONTROL_LEN,
                level: SOL_TLS,
                what: SET_RECORD_TYPE,
                kind,
                pad: [0; 7],
            };
            let control = (&raw const tx.control) as usize;
            socket.outbox.describe_record(&tx.entry, control, CONTROL_SIZE)
        });
        // SAFETY: message, type and bytes are in the socket's static slot or for ever, and not
        // written before the completion.
        unsafe { Sqe::send_msg(self.file(at), message) }.in_parts()
    }

    /// A control record is out, or failed.
    pub(in crate::op) fn record_sent(&self, at: u32, socket: &'static Socket, result: i32) {
        let was_notify = !socket.has(flag::RECORD_OUT);
        let records = &socket.records;
        let len = if was_notify { CLOSE_NOTIFY.len() } else { records.with_tx(|tx| tx.len.into()) };
        let mut error = match usize::try_from(result) {
            Ok(n) if n == len => 0,
            // Half a record: the kernel takes so few bytes whole, and what else would not be ours.
            Ok(_) => libc::EIO,
            Err(_) => -result,
        };
        if error == 0 {
            records.sealed.set(records.sealed.get() + 1);
            socket.moved.set(self.now_ms.get());
            socket.unset(if was_notify { flag::NOTIFY } else { flag::RECORD_OUT });
            if !was_notify {
                error = self.set_next_keys(at, socket);
            }
        }
        self.send_goes_on(at, socket, error);
    }

    /// After a record that changes keys: sets them. An error number, or 0.
    fn set_next_keys(&self, at: u32, socket: &Socket) -> i32 {
        let fd = self.tls_fd(at);
        let set = socket.records.with_tx(|tx| {
            let fd = fd.ok().filter(|_| !tx.then.is_empty());
            let set = fd.map(|fd| ktls::set_block(fd, Direction::Send, &tx.then));
            tx.then.wipe();
            set
        });
        match set {
            None => return 0,
            Some(Ok(())) => socket.records.sealed.set(0),
            Some(Err(Refused::NoRekey)) => return libc::EBUSY,
            Some(Err(Refused::Os(errno))) => return errno,
            Some(Err(_)) => return libc::EIO,
        }
        0
    }

    /// A receive failed: what is to be sent? On a connection that broke nothing more: once that was
    /// told, the kernel seals on and says that all is well (6.1 to 7.3). After a record that could not be
    /// opened an alert may tell why, and the kernel's error, which would end that send, is cleared.
    pub(in crate::op) fn fail_sealed_sends(&self, at: u32, socket: &Socket, errno: i32) {
        let of_record = matches!(
            errno,
            libc::EBADMSG | libc::EMSGSIZE | libc::EINVAL | libc::EKEYEXPIRED | libc::EIO
        );
        if !socket.has(flag::TLS_SEND) {
            return;
        }
        if !of_record {
            self.fail_sends(at, errno);
        } else if let Ok(fd) = self.tls_fd(at) {
            clear_error(fd);
        }
    }

    /// Forgets what was to be sent besides data; nothing of it is in flight.
    #[cold]
    pub(in crate::op) fn drop_records(&self, socket: &Socket) {
        socket.unset(flag::RECORD_OUT | flag::NOTIFY);
        socket.records.with_tx(|tx| tx.then.wipe());
    }

    /// Counts records of data that was sent.
    pub(in crate::op) fn count_sealed(&self, socket: &Socket, bytes: u64) {
        let sealed = &socket.records.sealed;
        sealed.set(sealed.get() + 1 + bytes / DATA_MAX);
    }
}
