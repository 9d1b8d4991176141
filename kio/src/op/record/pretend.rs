//! For tests: keys that no kernel has, and the messages of records as a kernel writes and reads them.

use super::{CONTROL_LEN, Control, GET_RECORD_TYPE, MSG_EOR, Rx};
use crate::op::Io;
use crate::op::outbox::Message;
use crate::op::socket::flag;
use crate::ring::ktls::SOL_TLS;
use crate::ring::{Opcode, Sqe};

impl Io {
    /// As if the kernel had keys.
    pub(in crate::op) fn pretend_sealed(&self, at: u32) {
        self.socket(at).set(flag::TLS_SEND | flag::TLS_RECV);
    }

    /// Whether keys lie in the socket's slot.
    pub(in crate::op) fn holds_keys(&self, at: u32) -> bool {
        self.socket(at).records.with_tx(|tx| !tx.then.is_empty())
    }
}

/// Writes a record's type as the kernel does, for the receive `sqe`.
pub(in crate::op) fn received(sqe: &Sqe, kind: u8, last: bool) {
    let rx = sqe.of().1 as *mut Rx;
    // SAFETY: the message of a receive that the test's kernel has.
    unsafe {
        (*rx).control =
            Control { len: CONTROL_LEN, level: SOL_TLS, what: GET_RECORD_TYPE, kind, pad: [0; 7] };
        (*rx).message.flags = if last { MSG_EOR } else { 0 };
    }
}

/// Type and bytes of the control record that `sqe` sends; none where it sends data.
pub(in crate::op) fn sent(sqe: &Sqe) -> Option<(u8, &'static [u8])> {
    if sqe.opcode != Opcode::SendMsg {
        return None;
    }
    let message = sqe.of().1 as *const Message;
    // SAFETY: the message of a send that the test's kernel has; of a record it has one entry.
    unsafe {
        let control = ((*message).control as *const Control).as_ref()?;
        let entry = &*(*message).entries;
        Some((control.kind, core::slice::from_raw_parts(entry.base.get(), entry.len.get())))
    }
}
