//! Waiting for a free slot of another worker's call arena, in order.
//!
//! Those who wait are on lists of their own worker, one a target, oldest first. Their worker says at
//! the target that it waits, and whoever frees a slot there hands it over: to each of the workers
//! that wait in turn, and to the threads. A worker that was handed one offers it to the first of its
//! list, who takes it; what nobody wants goes on. An offer that nobody took in a turn (who got it was
//! forgotten) goes to the next.

use core::cell::Cell;
use core::pin::Pin;
use core::task::Context;

use super::slot::{Handed, Link};
use crate::task::{Tasks, WaitList, WaitNode};

/// Who of a worker's tasks waits for room on one other worker.
pub(crate) struct RoomQueue {
    list: WaitList,
    /// One that was on the list was woken to take a slot, and has not come yet.
    offered: Cell<bool>,
    /// Slots of the target for those who wait here.
    handed: Handed,
}

impl RoomQueue {
    pub(crate) const fn new() -> Self {
        Self { list: WaitList::new(), offered: Cell::new(false), handed: Handed::new() }
    }

    /// Nobody waits and nothing was handed over.
    pub(super) fn clear(&self) {
        self.offered.set(false);
        self.handed.clear();
    }

    /// Hands a slot over; from any thread.
    pub(super) fn hand(&self, slot: u32, link: &Link) {
        self.handed.push(slot, link);
    }
}

/// What a caller without a slot is told.
pub(super) enum Turn {
    /// It has this slot of the target's arena.
    Slot(&'static Tasks, u32),
    /// It waits, and will be woken.
    Wait,
    /// It may not wait: it is part of a call itself.
    Full,
    /// The target takes no calls any more.
    Stopped,
}

impl Tasks {
    /// A slot of worker `to`, for the caller whose node and ticket (0 before it first waited) these
    /// are.
    pub(super) fn call_turn(
        &'static self,
        to: u32,
        node: Pin<&WaitNode>,
        ticket: &mut u64,
        cx: &Context<'_>,
    ) -> Turn {
        if !self.calls.started.get() {
            node.wait(&self.calls.start_waiters, self, cx);
            return Turn::Wait;
        }
        let Some(target) = self.peer(to) else {
            return Turn::Stopped;
        };
        let queue = self.calls.queues.at(to as usize);
        let offered = *ticket != 0;
        if offered && node.is_waiting() {
            node.wait(&queue.list, self, cx);
            return Turn::Wait;
        }
        let slot = if offered {
            queue.handed.pop(|nth| target.calls.link(nth))
        } else if queue.list.is_empty() && !queue.offered.get() {
            target.claim_call()
        } else {
            None
        };
        if let Some(slot) = slot {
            self.call_offer_over(to, ticket);
            return Turn::Slot(target, slot);
        }
        if target.calls.inbox.is_closed() {
            self.call_offer_over(to, ticket);
            return Turn::Stopped;
        }
        if self.in_call() {
            self.counters.calls_full.add(1);
            self.call_offer_over(to, ticket);
            return Turn::Full;
        }
        if !offered {
            self.counters.call_waits.add(1);
            self.calls.tickets.set(self.calls.tickets.get() + 1);
            *ticket = self.calls.tickets.get();
        }
        node.wait_in_order(&queue.list, *ticket, self, cx);
        if offered {
            self.take_offer(queue);
        }
        self.look_for_slot(to);
        Turn::Wait
    }

    /// A caller that was offered a slot, if it was, has taken it or does without: the next is asked.
    pub(super) fn call_offer_over(&self, to: u32, ticket: &mut u64) {
        if core::mem::take(ticket) != 0 {
            self.take_offer(self.calls.queues.at(to as usize));
            self.look_for_slot(to);
        }
    }

    fn take_offer(&self, queue: &RoomQueue) {
        if queue.offered.replace(false) {
            self.calls.offers.set(self.calls.offers.get() - 1);
        }
    }

    /// Offers a slot of worker `to` to the first who waits for one, if this worker was handed one;
    /// else asks for one. What nobody here waits for goes on.
    fn look_for_slot(&self, to: u32) {
        let (Some(target), queue) = (self.peer(to), self.calls.queues.at(to as usize)) else {
            return;
        };
        if queue.offered.get() {
            return;
        }
        let link = |nth| target.calls.link(nth);
        if queue.list.is_empty() {
            while let Some(slot) = queue.handed.pop(link) {
                target.pass_slot(slot);
            }
            return;
        }
        if queue.handed.is_empty() {
            if let Some(slot) = target.calls.room.ask(self.worker(), link) {
                queue.hand(slot, link(slot));
            } else if !target.calls.inbox.is_closed() {
                return;
            }
        }
        queue.offered.set(true);
        self.calls.offers.set(self.calls.offers.get() + 1);
        queue.list.wake_one(self);
    }

    /// Looks for news of others since the last turn.
    #[inline]
    pub(crate) fn look_for_room(&self) {
        let (calls, workers) = (&self.calls, self.workers());
        if calls.offers.get() == 0 && calls.news.seems_empty(self.waiters()) {
            return;
        }
        for to in 0..workers {
            let queue = calls.queues.at(to as usize);
            if queue.offered.get() {
                self.take_offer(queue);
                self.look_for_slot(to);
            }
        }
        // Of the threads' slots, see `claim_for_thread`.
        calls.news.take_all(self.waiters(), |to| {
            if to < workers {
                self.look_for_slot(to);
            }
        });
    }

    /// 1 for a plain thread's call, which waits in the queue of this, its target.
    #[cfg(feature = "std")]
    pub(super) fn claim_for_thread(&self) -> Option<u32> {
        let (calls, threads) = (&self.calls, self.workers());
        let link = |nth| calls.link(nth);
        let slot = calls
            .for_threads
            .pop(link)
            .or_else(|| self.claim_call())
            .or_else(|| calls.room.ask(threads, link))?;
        // SAFETY: just claimed.
        unsafe { calls.header(slot).slot.claimed(None) };
        Some(slot)
    }

    /// No thread waits: what was handed to them goes on.
    #[cfg(feature = "std")]
    pub(super) fn pass_thread_slots(&self) {
        while let Some(slot) = self.calls.for_threads.pop(|nth| self.calls.link(nth)) {
            self.pass_slot(slot);
        }
    }

    /// All workers have started: calls may be posted to them.
    pub(crate) fn open_calls(&self) {
        self.calls.started.set(true);
        self.calls.start_waiters.wake_all(self);
    }

    /// Empties the lists of those who wait.
    pub(crate) fn wake_call_waiters(&self) {
        self.calls.start_waiters.wake_all(self);
        for queue in self.calls.queues.get() {
            queue.list.wake_all(self);
        }
    }
}
