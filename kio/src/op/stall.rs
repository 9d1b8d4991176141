//! Buffers that do not come back: how long somebody has waited for one, and whose connection is reset
//! for it.
//!
//! Time is the worker's: one that could not run, or slept while nobody waited, charges nobody for that
//! (see `Loop::tick`).
//!
//! What a connection holds is known by the accounts of buffers. It is idle while it moves no byte: one
//! with a send under way moves sent bytes only, or a peer that reads nothing could send one now and
//! then and hold its replies for ever.

use super::Io;
use super::list::List;
use super::socket::{State, flag, send_op};

/// After a stall those who hold buffers have this part of its time, for as long as others still wait:
/// peers that mean harm may be many times what the store serves at once.
pub(crate) const HURRY: u32 = 8;
/// Milliseconds after which one who waits is a new one: those who are lent buffers wait again and again.
const MOMENT: u32 = 500;

impl Io {
    /// Milliseconds that the first of those who wait for a buffer has waited.
    pub(crate) fn longest_wait(&self) -> u32 {
        let since = |then: u32| self.now_ms.get().wrapping_sub(then);
        let first_of = |line: &List| line.first().map(|at| since(self.socket(at).starved_at.get()));
        let received = first_of(&self.starved).max(first_of(&self.thirsty));
        let own = self.bufs.first_wait().map(since);
        // Those who are lent buffers never wait for long, and the ring's are still owed to them.
        received.max(own).max(self.dry_since().map(since)).unwrap_or(0)
    }

    /// Since when the ring has been dry with somebody who waits, but for moments.
    pub(super) fn dry_since(&self) -> Option<u32> {
        let (since, seen) = self.dry.get()?;
        (self.now_ms.get().wrapping_sub(seen) <= MOMENT).then_some(since)
    }

    /// Somebody has waited for `stall_ms`: resets the connections that hold buffers and moved no byte in
    /// that time; all of them, for who waits may be a thousand more. Where there is none, or they were
    /// reset and others wait `again`, a shorter time counts; and where each moves some, the one that
    /// holds most is reset.
    #[cold]
    pub(crate) fn reset_stalled(&self, stall_ms: u32, again: bool) {
        self.count_holders();
        let hurry = (stall_ms / HURRY).max(1);
        let any = (!again && self.reset_idle(stall_ms)) || self.reset_idle(hurry);
        if !any && let Some(at) = self.largest_holder() {
            self.reset_holder(at);
        }
    }

    fn count_holders(&self) {
        let sockets = self.sockets.get();
        for socket in &sockets[..self.fresh.get() as usize] {
            socket.holds.set(0);
        }
        for header in self.bufs.headers() {
            let account = header.account.get();
            let at = (account & 0xffff).wrapping_sub(1);
            // An account of a connection that is gone is nobody's.
            if account != 0 && self.socket(at).account(at) == account {
                let holds = &sockets[at as usize].holds;
                holds.set(holds.get() + 1);
            }
        }
    }

    /// Whether it is a connection that holds buffers and was not reset for it.
    fn holds_buffers(&self, at: u32) -> bool {
        let socket = self.socket(at);
        socket.state.get() == State::Open && !socket.has(flag::STALLED) && socket.holds.get() > 0
    }

    fn idle_ms(&self, at: u32) -> u32 {
        let socket = self.socket(at);
        // A relay may only ask whether it could send.
        let sends =
            self.is_busy(send_op(at)) && (socket.outbox.len.get() > 0 || socket.has_record());
        let moved = if sends { &socket.sent_at } else { &socket.moved };
        self.now_ms.get().wrapping_sub(moved.get())
    }

    fn reset_idle(&self, idle_ms: u32) -> bool {
        let mut any = false;
        for at in 0..self.fresh.get() {
            if self.holds_buffers(at) && self.idle_ms(at) >= idle_ms {
                self.reset_holder(at);
                any = true;
            }
        }
        any
    }

    fn largest_holder(&self) -> Option<u32> {
        let holders = (0..self.fresh.get()).filter(|at| self.holds_buffers(*at));
        holders.max_by_key(|at| self.socket(*at).holds.get())
    }

    fn reset_holder(&self, at: u32) {
        self.counters().stalled.add(1);
        self.reset(at);
    }

    /// Somebody waits for a buffer of its own: what was pushed and not sent goes out now, since buffers
    /// that wait for more would wait for each other.
    #[cold]
    pub(crate) fn flush_all(&self) {
        for at in 0..self.fresh.get() {
            self.start_flush(at);
        }
    }
}
