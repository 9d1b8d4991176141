//! The submit queue: operations wait here, linked through their slots, and become SQEs when the
//! ring has room. So a full ring is never seen above this file.

use super::slot::{Kind, Slot, State, Tag};
use super::socket::flag;
use super::{CANCELS_MAX, Io, OPS_A_SOCKET};
use crate::metrics::Op;
use crate::ring::Sqe;
use crate::trace;

impl Io {
    /// 1: queues an operation in its free slot.
    #[inline]
    pub(super) fn submit(&self, index: u32, kind: Kind) {
        let slot = self.slot(index);
        debug_assert!(slot.state.get() == State::Free, "{kind:?} in a slot that is taken");
        slot.state.set(State::Queued);
        slot.kind.set(kind);
        let queue = if kind == Kind::Close { &self.cleanup } else { &self.work };
        queue.push(&self.slots, index);
    }

    /// Whether the slot's operation is queued or in the kernel.
    #[inline]
    pub(super) fn is_busy(&self, index: u32) -> bool {
        self.slot(index).state.get() != State::Free
    }

    /// Whether the slot's operation is in the kernel and nobody gave it up.
    pub(super) fn is_submitted(&self, index: u32) -> bool {
        self.slot(index).state.get() == State::Submitted
    }

    /// 3 and 5: gives an operation up. One that is queued never reaches the kernel, and true is
    /// returned: it is free now. One in the kernel is cancelled by its user data, and its own
    /// completion frees it.
    pub(super) fn cancel(&self, index: u32) -> bool {
        let slot = self.slot(index);
        match slot.state.get() {
            State::Queued => {
                self.work.leave(&self.slots, index);
                slot.state.set(State::Free);
                slot.kind.set(Kind::None);
                true
            }
            State::Submitted => {
                slot.state.set(State::Cancelling);
                self.cleanup.push(&self.slots, index);
                false
            }
            State::Free | State::Cancelling | State::Cancelled => false,
        }
    }

    /// Whether anything waits to be pushed.
    #[inline]
    pub(crate) fn has_submissions(&self) -> bool {
        !self.work.is_empty() || self.next_cleanup().is_some()
    }

    fn next_cleanup(&self) -> Option<u32> {
        let index = self.cleanup.first()?;
        let is_cancel = self.slot(index).state.get() == State::Cancelling;
        (!is_cancel || self.cancels.get() < CANCELS_MAX).then_some(index)
    }

    /// 2: the next submission, clean-up first.
    #[inline]
    pub(crate) fn next_sqe(&self) -> Option<Sqe> {
        let index = match self.next_cleanup() {
            Some(index) => {
                self.cleanup.leave(&self.slots, index);
                index
            }
            None => match self.work.pop(&self.slots) {
                Some(index) => index,
                None => return self.next_file_cancel(),
            },
        };
        let slot = self.slot(index);
        Some(match slot.state.get() {
            State::Cancelling => self.cancel_sqe(index, slot),
            _ => self.push(index, slot),
        })
    }

    fn cancel_sqe(&self, index: u32, slot: &Slot) -> Sqe {
        slot.state.set(State::Cancelled);
        self.cancels.set(self.cancels.get() + 1);
        self.counters().ops.add(Op::Cancel);
        let target = Tag::Op { slot: index, generation: slot.generation.get() };
        self.tasks().trace.op(trace::Kind::Submit, Op::Cancel, target.encode(), 0, false);
        Sqe::cancel(target.encode()).tagged(Tag::Cancel.encode())
    }

    /// Writes a queued operation's SQE; from here on the kernel has it.
    #[inline]
    fn push(&self, index: u32, slot: &Slot) -> Sqe {
        slot.state.set(State::Submitted);
        self.counters().ops.add(slot.kind.get().counted());
        self.in_flight.set(self.in_flight.get() + 1);
        let at = index / OPS_A_SOCKET;
        let sqe = match slot.kind.get() {
            Kind::Recv => self.recv_sqe(at),
            Kind::RecvPoll => Sqe::poll_received(self.file(at)),
            Kind::RecvLent => self.lent_sqe(at),
            Kind::Send => self.send_sqe(at),
            Kind::SendPoll => Sqe::poll_writable(self.file(at)),
            Kind::Accept => self.accept_sqe(at),
            Kind::Connect => {
                let (addr, len) = self.socket(at).peer.as_raw();
                // SAFETY: the address is in the socket's static slot, which is not freed before.
                unsafe { Sqe::connect(self.file(at), addr, len) }
            }
            // SAFETY: the number is in the socket's static slot, which is not freed before.
            Kind::Install => unsafe { Sqe::install(at, self.socket(at).install.as_ptr() as u64) },
            Kind::Shutdown => Sqe::shutdown_write(self.file(at)),
            Kind::Close => {
                self.socket(at).unset(flag::INSTALLED);
                Sqe::close(at)
            }
            #[cfg(feature = "tls")]
            Kind::RecvRecord => self.record_receive_sqe(at),
            #[cfg(feature = "tls")]
            Kind::SendRecord => self.record_send_sqe(at),
            Kind::None => Sqe::nop(),
        };
        let tag = Tag::Op { slot: index, generation: slot.generation.get() }.encode();
        self.tasks().trace.op(trace::Kind::Submit, slot.kind.get().counted(), tag, 0, false);
        sqe.tagged(tag)
    }

    /// The standing wake-up: completes whenever another thread writes the worker's eventfd.
    pub(crate) fn wake_sqe(eventfd: i32) -> Sqe {
        Sqe::poll_readable(eventfd).tagged(Tag::Wake.encode())
    }

    /// A message that wakes another worker: it completes on that one's ring, and here if it fails.
    pub(crate) fn message_sqe(worker: u32, ring: i32) -> Sqe {
        Sqe::message(ring, Tag::Message.encode()).tagged(Tag::Sent { worker }.encode())
    }
}
