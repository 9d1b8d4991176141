//! Relaying: received buffers move from one socket's queue into another's outbox as they are, and are
//! sent gathered; no byte is copied, and each buffer goes back to the ring once it is sent.
//!
//! What arrives is handed on where its completion is taken, and the relay's task sleeps on; it is woken
//! where something is to be decided: an end, an error, a full window, a receive to be armed.
//!
//! While a socket is relayed from, its receives are bundles where the kernel tells those right, and
//! its window is the relay's: it counts what is queued and what is on its way out together, so a peer
//! that does not read stops its sender, and holds no more of the store than that.
//!
//! The rule of few buffers: whatever can move, moves. Peers that do not read may hold all that the ring
//! had, each a part, and servers that read no more before they have written wait for just those who
//! wait for buffers then. So a way of a relay that finds the ring dry asks for no buffer before it is
//! sure to let go of it at once:
//!
//! ```text
//!           its receiver takes bytes       its sender sent some          from the ring, or lent
//!  dry ---SendPoll--> tx_ready ---RecvPoll--> in the line of the thirsty ---> one buffer, sent on
//! ```
//!
//! Those of the line are served from the ring as it is filled, and while it stays dry by `quench`, with
//! buffers that are kept for tasks (`reserve`). One of these is sent as soon as it is filled (a socket
//! is writable while a third of its send buffer is free), and comes back. Those who hold what the ring
//! had are reset after the `stall` time, as ever.

use super::Io;
use super::slot::Kind;
use super::socket::{Socket, State, flag, recv_op, send_op};
use crate::error::{Error, Result};
use crate::ring::Sqe;

/// How many of those who may be lent a buffer are looked at a turn.
const LENDS_A_TURN: u32 = 64;
const AGAIN: i32 = -libc::EAGAIN;

/// How receiving goes on in one way of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Intake {
    /// More comes, or a buffer for it is waited for: the receiver is woken.
    Open,
    /// The window is full, or the ring is dry and the receiver takes nothing now: it goes on when a send
    /// has completed, or could.
    Full,
    /// The peer has ended its side, and all of it was handed on.
    Ended,
}

impl Io {
    /// Begins to relay from a socket to another, by a window of so many buffers.
    pub(crate) fn relay_from(&self, at: u32, to: u32, window: u16) {
        let socket = self.socket(at);
        socket.relay.set(window.max(1));
        // Of a receive that is armed before the relay looks, for one who waits in line.
        socket.relay_room.set(window.max(1));
        socket.relay_to.set(to + 1);
        // One that was forgotten goes on, but never to the slot's next owner.
        socket.relay_generation.set(self.generation(to));
        socket.relayed.set(0);
    }

    /// Ends that. A receive in the kernel goes on, and fills the socket's queue.
    pub(crate) fn relay_over(&self, at: u32) {
        let socket = self.socket(at);
        socket.relay.set(0);
        socket.relay_to.set(0);
    }

    /// Bytes that were handed on since the relay from a socket began.
    pub(crate) fn relayed(&self, at: u32) -> u64 {
        self.socket(at).relayed.get()
    }

    /// A buffer with `n` bytes arrived: into the outbox with it, where nothing waits before it and all
    /// is well; else it is queued, and the relay's task sees to it.
    #[inline]
    pub(super) fn pass_on(&self, from: &Socket, index: u32, n: u32) -> bool {
        let to_at = from.relay_to.get() - 1;
        let to = self.socket(to_at);
        let most = from.relay.get().min(self.outbox.get());
        if from.rx_head.get() != 0
            || to.generation.get() != from.relay_generation.get()
            || to.outbox.len.get() >= most
            || to.writable().is_err()
        {
            return false;
        }
        self.bufs.header(index).account.set(to.account(to_at));
        self.push_entry(to_at, to, self.bufs.addr(index), n as usize, index + 1);
        from.relayed.set(from.relayed.get() + u64::from(n));
        to.unset(flag::JOINABLE);
        self.start_send(to_at, to);
        true
    }

    /// Buffers that an outbox holds at most.
    pub(crate) fn outbox_size(&self) -> u16 {
        self.outbox.get()
    }

    /// Moves what `from` has received into the outbox of `to`, as far as the window goes, and sends it.
    #[inline]
    pub(crate) fn hand_on(&self, from: &'static Socket, to_at: u32, to: &'static Socket) {
        if from.rx_head.get() == 0 {
            return;
        }
        let most = from.relay.get().min(self.outbox.get());
        let mut moved = 0;
        while to.outbox.len.get() < most
            && let Some((index, header)) = self.pop_received(from)
        {
            let (start, len) = (header.start.get() as usize, header.len.get() as usize);
            header.account.set(to.account(to_at));
            self.push_entry(to_at, to, self.bufs.addr(index).wrapping_add(start), len, index + 1);
            moved += len as u64;
        }
        from.relayed.set(from.relayed.get() + moved);
        to.unset(flag::JOINABLE);
        self.start_send(to_at, to);
    }

    /// Receives on, as far as the window goes, once all that was received is handed on.
    #[inline]
    pub(crate) fn take_in(
        &self,
        (at, from): (u32, &'static Socket),
        (to_at, to): (u32, &Socket),
    ) -> Result<Intake> {
        if from.rx_head.get() != 0 {
            return Ok(Intake::Full);
        }
        if self.is_busy(recv_op(at)) || from.has(flag::STARVED) {
            return Ok(Intake::Open);
        }
        if from.rx_error.get() != 0 {
            return Err(from.error_of("receive", from.rx_error.get()));
        }
        if from.has(flag::EOF) {
            return Ok(Intake::Ended);
        }
        if from.state.get() != State::Open {
            return Err(Error::Stopped);
        }
        let window = from.relay.get().max(1);
        let room = window.saturating_sub(to.outbox.len.get());
        // By halves of the window: one is received while the other is sent.
        if room < window.div_ceil(2) {
            return Ok(Intake::Full);
        }
        from.relay_room.set(room);
        // Behind those who wait for buffers: or who is busy would take all that come back.
        if self.has_starved() || self.bufs.is_dry() {
            return Ok(self.take_in_dry(at, (to_at, to)));
        }
        self.arm(at, from);
        Ok(Intake::Open)
    }

    /// Waits for the receiver, and then for something to receive.
    #[cold]
    fn take_in_dry(&self, at: u32, (to_at, to): (u32, &Socket)) -> Intake {
        if to.tx_ready.get() {
            self.submit(recv_op(at), Kind::RecvPoll);
            return Intake::Open;
        }
        if !self.is_busy(send_op(to_at)) {
            to.sent_at.set(self.now_ms.get());
            self.submit(send_op(to_at), Kind::SendPoll);
        }
        Intake::Full
    }

    /// The receiver of a relay takes bytes, or has failed: its next send tells.
    #[cold]
    pub(super) fn writable_completed(&self, at: u32, socket: &'static Socket) {
        socket.tx_ready.set(true);
        self.send_goes_on(at, socket, 0);
    }

    /// Buffers that the next receive of a relay may fill. A bundle that could take all that the ring
    /// holds ends its receive, each time (6.18): half of it at most, and a deeper ring the next time.
    pub(super) fn relay_cap(&self, from: &Socket, in_ring: u32) -> u32 {
        let room = u32::from(from.relay_room.get());
        if room > in_ring / 2 {
            self.bufs.deepen();
        }
        room.min(in_ring / 2).max(1)
    }

    /// How many of the ring's buffers the next of the line may fill. A relay's may be a window: it gives
    /// them back at once, and few large bundles cost less than many small ones.
    ///
    /// What 50 busy streams on 512 buffers of 16 KiB showed (counts a GiB; by hand, with windows of 64:
    /// 1,890 receives that brought something, 6,100 that found the ring dry, 1,880 sends): with windows
    /// of 32, 3,130, 8,900 and 3,930. To let all wait in this line whenever the ring holds less than a
    /// window spares the vain receives (430), but cuts the shares of the last small: 4,250 receives and
    /// 4,130 sends, and more turns. Vain receives are cheap; what counts is bytes a send.
    pub(super) fn share(&self, socket: &Socket, in_ring: u32) -> u32 {
        if socket.relay.get() == 0 || !self.features.get().recv_cap {
            return 1;
        }
        let held = match socket.relay_to.get() {
            0 => 0,
            to => self.socket(to - 1).outbox.len.get(),
        };
        let room = u32::from(socket.relay.get().saturating_sub(held));
        let share = room.min(in_ring / 2).max(1);
        socket.relay_room.set(share as u16);
        share
    }

    /// Stops receiving for a way whose other end takes nothing any more, and lets go of what came.
    pub(crate) fn give_up_intake(&self, at: u32) {
        self.leave_starved(at);
        self.cancel_recv(at);
        self.drop_received(at);
    }

    /// Cancels a socket's receive; a buffer lent to one that had not begun comes back.
    pub(super) fn cancel_recv(&self, at: u32) {
        if self.cancel(recv_op(at))
            && let Some(index) = self.socket(at).rx_lent.replace(0).checked_sub(1)
        {
            self.bufs.release(index);
        }
    }

    // ---- the ring is dry ----

    /// There is something to receive, and a buffer is waited for.
    #[cold]
    pub(super) fn poll_completed(&self, at: u32, socket: &'static Socket, given_up: bool) {
        if !socket.receives() {
            return;
        }
        match socket.relay_to.get() {
            _ if given_up => {}        // who receives on begins anew
            0 => self.arm(at, socket), // the relay is over
            _ => self.join_thirsty(at, socket),
        }
        socket.rx_waiter.wake(self.tasks());
    }

    fn join_thirsty(&self, at: u32, socket: &Socket) {
        if !socket.has(flag::STARVED) {
            socket.set(flag::STARVED | flag::THIRSTY);
            socket.starved_at.set(self.now_ms.get());
            self.thirsty.push(&self.sockets, at);
        }
    }

    /// The ring is dry: lends buffers that are kept for tasks, where no task waits for one, to those
    /// who will let go of them at once.
    #[cold]
    pub(super) fn quench(&self) {
        for _ in 0..LENDS_A_TURN {
            let Some(at) = self.thirsty.first().filter(|_| !self.bufs.has_waiters()) else {
                return;
            };
            let socket = self.socket(at);
            if !self.sends_on(socket) {
                // The relay is over, or something else was sent meanwhile: from the start.
                self.leave_starved(at);
                if socket.relay_to.get() == 0 {
                    self.arm(at, socket);
                }
                socket.rx_waiter.wake(self.tasks());
                continue;
            }
            let Some(index) = self.bufs.take() else { return };
            self.leave_starved(at);
            socket.rx_lent.set(index + 1);
            self.submit(recv_op(at), Kind::RecvLent);
        }
    }

    /// Whether what a socket receives can be sent on at once.
    fn sends_on(&self, from: &Socket) -> bool {
        let Some(to_at) = from.relay_to.get().checked_sub(1) else { return false };
        let to = self.socket(to_at);
        let same = to.generation.get() == from.relay_generation.get();
        same && to.tx_ready.get() && to.outbox.len.get() == 0
    }

    pub(super) fn lent_sqe(&self, at: u32) -> Sqe {
        let index = self.socket(at).rx_lent.get() - 1;
        // SAFETY: the socket holds the buffer until the completion, and nobody else does.
        unsafe { Sqe::recv_into(self.file(at), self.bufs.addr(index) as u64, self.bufs.size()) }
    }

    #[cold]
    pub(super) fn lent_completed(
        &self,
        at: u32,
        socket: &'static Socket,
        result: i32,
        given_up: bool,
    ) {
        let Some(index) = socket.rx_lent.replace(0).checked_sub(1) else { return };
        let open = socket.receives();
        if open && result > 0 {
            return self.queue_received(at, socket, index, result as u32, false);
        }
        match result {
            AGAIN if given_up => socket.rx_waiter.wake(self.tasks()),
            AGAIN if open => self.submit(recv_op(at), Kind::RecvPoll),
            result => self.recv_ended(at, result, open),
        }
        self.bufs.release(index); // last: it may wake somebody, who may receive here
    }

    /// Milliseconds since either socket moved a byte, or since `begun`.
    pub(crate) fn relay_idle_ms(&self, begun: u32, a: &Socket, b: &Socket) -> u32 {
        let since = |then: u32| self.now_ms.get().wrapping_sub(then);
        // Stamps from before a relay began, or of a clock behind this turn's, say nothing.
        let since = |then| if (since(then) as i32) < 0 { 0 } else { since(then) };
        since(begun).min(since(a.moved.get())).min(since(b.moved.get()))
    }

    /// Whether a send of the socket is queued or in the kernel.
    pub(crate) fn is_sending(&self, at: u32) -> bool {
        self.is_busy(send_op(at))
    }
}

impl Socket {
    /// Whoever polls is woken when something is received.
    #[inline]
    pub(crate) fn on_received(&self, io: &Io, cx: &core::task::Context<'_>) {
        self.rx_waiter.register(io.tasks(), cx);
    }

    /// Whoever polls is woken when a send has completed.
    #[inline]
    pub(crate) fn on_sent(&self, io: &Io, cx: &core::task::Context<'_>) {
        self.tx_waiter.register(io.tasks(), cx);
    }
}
