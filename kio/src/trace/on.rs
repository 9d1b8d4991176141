//! The ring of events: one thread writes, any thread reads what is not overwritten meanwhile.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use super::event::{Event, Kind};
use crate::metrics::Op;
use crate::ring::sys;

/// Events that are kept.
const EVENTS: usize = 8192;

/// An event's words: when; what, which operation, whether more follow, and of whom; its user data; its
/// result.
struct Slot([AtomicU64; 4]);

/// A worker's trace. All zero while empty.
pub(crate) struct Trace {
    slots: [Slot; EVENTS],
    /// How many events there were.
    count: AtomicU64,
}

impl Trace {
    /// Whether anything is written.
    pub(crate) const ON: bool = true;

    pub(crate) const fn new() -> Self {
        Self {
            slots: [const { Slot([const { AtomicU64::new(0) }; 4]) }; EVENTS],
            count: AtomicU64::new(0),
        }
    }

    /// Forgets all, for a pool that starts again.
    pub(crate) fn clear(&self) {
        self.count.store(0, Ordering::Release);
    }

    fn write(&self, kind: Kind, low: u64, id: u64, result: i32) {
        let count = self.count.load(Ordering::Relaxed);
        // What overwrites comes after the count that says so: a reader who meets it looks again.
        fence(Ordering::Release);
        let words = [sys::monotonic(), (kind as u64) << 56 | low, id, result as u32 as u64];
        let slot = &self.slots[count as usize % EVENTS];
        for (place, word) in slot.0.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.count.store(count + 1, Ordering::Release);
    }

    /// Something about a task.
    pub(crate) fn task(&self, kind: Kind, task: u32) {
        self.write(kind, task.into(), 0, 0);
    }

    /// Something about an operation.
    pub(crate) fn op(&self, kind: Kind, op: Op, id: u64, result: i32, more: bool) {
        self.write(kind, (op as u64) << 48 | u64::from(more) << 32, id, result);
    }

    /// A step of the loop.
    pub(crate) fn step(&self, kind: Kind, subject: u32) {
        self.write(kind, subject.into(), 0, 0);
    }

    /// The events that are still there, oldest first, up to the last one now; from any thread. `name`
    /// tells a task's.
    pub(crate) fn read(&self, name: impl Fn(u32) -> &'static str) -> impl Iterator<Item = Event> {
        let end = self.count.load(Ordering::Acquire);
        let first = end.saturating_sub(EVENTS as u64 - 1);
        (first..end).filter_map(move |at| self.event(at, &name))
    }

    /// An event, unless it was overwritten.
    fn event(&self, at: u64, name: impl Fn(u32) -> &'static str) -> Option<Event> {
        let slot = &self.slots[at as usize % EVENTS];
        let [ns, word, id, result] = [0, 1, 2, 3].map(|i| slot.0[i].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        // One more may be under way than is counted.
        if self.count.load(Ordering::Relaxed) >= at + EVENTS as u64 {
            return None;
        }
        let kind = *Kind::ALL.get((word >> 56) as usize)?;
        let subject = word as u32;
        let name = match kind {
            Kind::Spawn | Kind::Wake | Kind::Poll | Kind::PollEnd | Kind::End => name(subject),
            Kind::Submit | Kind::Complete => Op::name((word >> 48) as u8),
            _ => "",
        };
        let (is_op, more) = (matches!(kind, Kind::Submit | Kind::Complete), word >> 32 & 1 == 1);
        let subject = if is_op { 0 } else { subject };
        Some(Event { ns, kind, subject, name, id, result: result as u32 as i32, more })
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_newest_events_are_kept_in_order() {
        let trace = Box::new(Trace::new());
        for task in 0..EVENTS as u32 * 2 + 5 {
            trace.task(Kind::Wake, task);
        }
        let tasks: Vec<_> = trace.read(|_| "").map(|event| event.subject).collect();
        assert_eq!(tasks.len(), EVENTS - 1);
        assert!(tasks.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        assert_eq!(tasks.last(), Some(&(EVENTS as u32 * 2 + 4)));
        trace.clear();
        assert_eq!(trace.read(|_| "").count(), 0);
    }

    #[test]
    fn a_reader_beside_the_writer_sees_no_torn_event() {
        let trace = Box::new(Trace::new());
        let done = core::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..200_000u32 {
                    // Three words that must agree.
                    trace.write(Kind::Complete, i.into(), (!i).into(), i as i32);
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                for event in trace.read(|_| "") {
                    assert_eq!(event.id as u32, !(event.result as u32));
                }
            }
        });
    }
}
