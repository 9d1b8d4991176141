//! The timer wheel: six levels of 64 slots, each level 64 times coarser than the one below.
//!
//! A timer sits on the lowest level whose range holds both it and the present; when its slot comes
//! up it fires or moves down. Each is moved at most five times. A timer beyond the top level's range
//! (416 days) waits in the top level and is put back when it comes up.

use core::cell::Cell;
use core::pin::Pin;
use core::task::Context;
use core::time::Duration;

use crate::ring::sys;
use crate::task::{Tasks, WaitList, WaitNode};

const LEVELS: usize = 6;
/// A tick is 2^19 ns, about half a millisecond.
const TICK_BITS: u32 = 19;

/// A worker's timers and its clock. A static; all zero while idle.
pub(crate) struct Timers {
    /// The tick up to which timers have fired.
    elapsed: Cell<u64>,
    /// Nanoseconds at the start of this turn.
    turn: Cell<u64>,
    /// Which slots of each level may hold timers. A timer that leaves lets its bit be; an empty slot
    /// is found out when it would come up.
    occupied: [Cell<u64>; LEVELS],
    /// A timer waits in its slot with its tick for a key.
    slots: [[WaitList; 64]; LEVELS],
    pub(super) tasks: Cell<Option<&'static Tasks>>,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Self {
            elapsed: Cell::new(0),
            turn: Cell::new(0),
            occupied: [const { Cell::new(0) }; LEVELS],
            slots: [const { [const { WaitList::new() }; 64] }; LEVELS],
            tasks: Cell::new(None),
        }
    }

    pub(crate) fn set_up(&self, tasks: &'static Tasks, now: u64) {
        self.tasks.set(Some(tasks));
        self.turn.set(now);
        self.elapsed.set(now >> TICK_BITS);
    }

    /// Nanoseconds at the start of this turn.
    #[inline]
    pub(crate) fn turn(&self) -> u64 {
        self.turn.get()
    }

    /// Puts a timer on the wheel, unless it is there, to fire a span from now.
    pub(crate) fn set_after(
        &'static self,
        node: Pin<&WaitNode>,
        span: Duration,
        tasks: &Tasks,
        cx: &Context<'_>,
    ) {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.set(node, sys::monotonic().saturating_add(span), tasks, cx);
    }

    /// Puts a timer on the wheel, to fire at `deadline` (nanoseconds) or a tick later.
    pub(crate) fn set(
        &'static self,
        node: Pin<&WaitNode>,
        deadline: u64,
        tasks: &Tasks,
        cx: &Context<'_>,
    ) {
        let tick = (deadline >> TICK_BITS) + 1;
        node.wait_keyed(self.slot_for(tick), tick, tasks, cx);
    }

    /// The slot for a tick, seen from now.
    fn slot_for(&'static self, tick: u64) -> &'static WaitList {
        let elapsed = self.elapsed.get();
        let tick = tick.max(elapsed + 1);
        let apart = (elapsed ^ tick) | 63;
        let level = ((63 - apart.leading_zeros()) as usize / 6).min(LEVELS - 1);
        let slot = (tick >> (6 * level)) as usize % 64;
        self.occupied[level].set(self.occupied[level].get() | 1 << slot);
        &self.slots[level][slot]
    }

    /// The first slot that comes up: its level, its index and its tick.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let now = self.elapsed.get();
        for level in 0..LEVELS {
            let range = 1u64 << (6 * level);
            let here = (now / range) as u32 % 64;
            // The present's own slot is empty on every level but the top one, where it holds what
            // wraps around, and so comes last.
            let from = if level == LEVELS - 1 { here + 1 } else { here } % 64;
            while self.occupied[level].get() != 0 {
                let occupied = self.occupied[level].get();
                let ahead = occupied.rotate_right(from).trailing_zeros();
                let slot = (from + ahead) % 64;
                if self.slots[level][slot as usize].is_empty() {
                    self.occupied[level].set(occupied & !(1 << slot));
                    continue;
                }
                let start = now - now % (range * 64);
                let tick = start + u64::from(slot) * range;
                // The top level wraps around.
                let tick = if tick <= now { tick + range * 64 } else { tick };
                return Some((level, slot as usize, tick));
            }
        }
        None
    }

    /// Nanoseconds from this turn until the next timer is due.
    #[inline]
    pub(crate) fn next_due(&self) -> Option<u64> {
        let (_, _, tick) = self.next_slot()?;
        Some((tick << TICK_BITS).saturating_sub(self.turn.get()))
    }

    /// A new turn at `now`: fires what is due.
    #[inline]
    pub(crate) fn advance(&'static self, now: u64, tasks: &Tasks) {
        self.turn.set(now);
        let now = now >> TICK_BITS;
        if now == self.elapsed.get() {
            return;
        }
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > now {
                break;
            }
            self.elapsed.set(tick);
            self.empty(&self.slots[level][slot], tick, tasks);
        }
        self.elapsed.set(now.max(self.elapsed.get()));
    }

    /// Takes a slot's timers off: what is due at `tick` fires, the rest moves down. Bounded by
    /// what it holds now, since a wake may run user code that sets timers.
    fn empty(&'static self, slot: &'static WaitList, tick: u64, tasks: &Tasks) {
        for _ in 0..slot.count() {
            match slot.first_key() {
                Some(key) if key > tick => slot.move_first(self.slot_for(key)),
                _ => {
                    slot.wake_one(tasks);
                }
            }
        }
    }

    /// Takes every timer off the wheel and wakes it, as the worker ends.
    pub(crate) fn clear(&self, tasks: &Tasks) {
        for slot in self.slots.iter().flatten() {
            // Bounded: a wake may run code that sets timers.
            for _ in 0..slot.count() {
                slot.wake_one(tasks);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    /// A leaked wheel: tests stand for the static.
    fn wheel(now: u64) -> (&'static Timers, &'static Tasks) {
        let timers: &'static Timers = Box::leak(Box::new(Timers::new()));
        let tasks: &'static Tasks = Box::leak(Box::new(Tasks::new()));
        timers.set_up(tasks, now);
        (timers, tasks)
    }

    fn set(timers: &'static Timers, tasks: &Tasks, deadline: u64) -> Pin<Box<WaitNode>> {
        let node = Box::pin(WaitNode::new());
        let cx = Context::from_waker(core::task::Waker::noop());
        timers.set(node.as_ref(), deadline, tasks, &cx);
        node
    }

    #[test]
    fn timers_fire_in_their_tick_never_early_on_every_level() {
        const MS: u64 = 1_000_000;
        let start = 123_456_789 * MS;
        let (timers, tasks) = wheel(start);
        let spans = [0, 1, 2, 30, 33, 34, 1000, 2_100, 140_000, 9_000_000, 600_000_000];
        let nodes: Vec<_> = spans
            .iter()
            .map(|span| (start + span * MS, set(timers, tasks, start + span * MS)))
            .collect();
        let mut now = start;
        while let Some(due) = timers.next_due() {
            let before: Vec<_> = nodes.iter().map(|(_, node)| node.is_waiting()).collect();
            now += due;
            timers.advance(now, tasks);
            for ((deadline, node), was_waiting) in nodes.iter().zip(before) {
                if was_waiting && !node.is_waiting() {
                    assert!(now >= *deadline, "fired {} ns early", deadline - now);
                    assert!(now - deadline < 2 << TICK_BITS, "fired {} ns late", now - deadline);
                }
            }
        }
        assert!(nodes.iter().all(|(_, node)| !node.is_waiting()));
    }

    #[test]
    fn a_timer_beyond_the_top_level_waits_its_time() {
        let (timers, tasks) = wheel(0);
        let deadline = 3 << (TICK_BITS + 36);
        let node = set(timers, tasks, deadline);
        let mut turns = 0;
        while node.is_waiting() {
            let due = timers.next_due().expect("it is on the wheel");
            timers.advance(timers.turn() + due, tasks);
            turns += 1;
            assert!(turns < 100);
        }
        assert!(timers.turn() >= deadline);
    }

    #[test]
    fn a_timer_without_end_hides_no_other() {
        const DAY: u64 = 86_400_000_000_000;
        let (timers, tasks) = wheel(0);
        let endless = set(timers, tasks, u64::MAX);
        let ten_days = set(timers, tasks, 10 * DAY);
        for _ in 0..100 {
            let due = timers.next_due().expect("both are on the wheel");
            timers.advance(timers.turn() + due, tasks);
            if !ten_days.is_waiting() {
                break;
            }
        }
        assert!(!ten_days.is_waiting() && timers.turn() < 10 * DAY + (2 << TICK_BITS));
        assert!(endless.is_waiting());
    }

    #[test]
    fn a_dropped_timer_leaves_the_wheel_empty() {
        let (timers, tasks) = wheel(0);
        let nodes: Vec<_> = (0..1000).map(|i| set(timers, tasks, i * 777_777)).collect();
        drop(nodes);
        assert!(timers.next_due().is_none());
    }
}
