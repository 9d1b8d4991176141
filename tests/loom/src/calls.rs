//! Models of a call that crosses threads: its slot, the room for it, the inbox. A slot's body is a
//! cell that loom watches, so that two sides which both think it theirs are found.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::slot::{Answer, CallSlot, Handed, Inbox, Room};

const CLOSURE: u32 = 1;
const VALUE: u32 = 2;
const EMPTY: u32 = 0;

/// Counts its wakes.
#[derive(Clone)]
struct Waker(Arc<AtomicUsize>);

impl Waker {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn wake(self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn woken(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// A target with so many call slots.
struct Target {
    slots: Vec<(CallSlot<Waker>, UnsafeCell<u32>)>,
    room: Room,
    inbox: Inbox,
    handed: [Handed; 2],
    freed: AtomicUsize,
}

impl Target {
    fn new(slots: usize) -> Arc<Self> {
        let slot = |_| (CallSlot::new(), UnsafeCell::new(EMPTY));
        let target = Arc::new(Self {
            slots: (0..slots).map(slot).collect(),
            room: Room::new(),
            inbox: Inbox::new(),
            handed: [Handed::new(), Handed::new()],
            freed: AtomicUsize::new(0),
        });
        target.room.set_up(slots as u32, |nth| target.slot(nth).link());
        target
    }

    fn slot(&self, nth: u32) -> &CallSlot<Waker> {
        &self.slots[nth as usize].0
    }

    /// Puts something into a body, and tells what was there.
    fn put(&self, nth: u32, what: u32) -> u32 {
        // SAFETY: loom checks that nobody else is about.
        self.slots[nth as usize].1.with_mut(|body| unsafe { core::mem::replace(&mut *body, what) })
    }

    fn link(&self, nth: u32) -> &crate::slot::Link {
        self.slot(nth).link()
    }

    /// As `Tasks::free_call`.
    fn free(&self, nth: u32) {
        assert_eq!(self.put(nth, EMPTY), EMPTY, "freed with something in it");
        self.freed.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the model's claim, which loom checks.
        unsafe { self.slot(nth).clear() };
        if let Some((waiter, slot)) = self.room.give_back(nth, 2, |nth| self.link(nth)) {
            self.handed[waiter as usize].push(slot, self.link(slot));
        }
    }

    /// As `post`.
    fn post(&self, nth: u32, waker: &Waker) -> bool {
        // SAFETY: just claimed.
        unsafe { self.slot(nth).claimed(Some(waker.clone())) };
        assert_eq!(self.put(nth, CLOSURE), EMPTY);
        self.inbox.push(nth, self.link(nth))
    }

    fn claim(&self) -> Option<u32> {
        self.room.claim(|nth| self.link(nth))
    }

    /// As `Tasks::begin_call` and `Tasks::finish_call`: runs what was posted, to its end.
    fn run(&self) -> usize {
        let mut run = 0;
        self.inbox.take(
            |nth| self.link(nth),
            |nth| {
                run += 1;
                let value = if self.slot(nth).is_given_up() { EMPTY } else { VALUE };
                assert_eq!(self.put(nth, value), CLOSURE);
                let answer = if value == VALUE { Answer::Value } else { Answer::Lost };
                self.answer(nth, answer);
            },
        );
        run
    }

    fn answer(&self, nth: u32, answer: Answer) {
        // SAFETY: the target took it and has not answered.
        match unsafe { self.slot(nth).finish(answer) } {
            Ok(waker) => {
                if self.slot(nth).target_left() {
                    self.free(nth);
                }
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Err(()) => {
                self.put(nth, EMPTY);
                self.free(nth);
            }
        }
    }

    /// As `take`.
    fn take(&self, nth: u32, answer: Answer) {
        let expected = match answer {
            Answer::Value => VALUE,
            Answer::Refused => CLOSURE,
            Answer::Lost => EMPTY,
        };
        assert_eq!(self.put(nth, EMPTY), expected);
        if self.slot(nth).caller_left() {
            self.free(nth);
        }
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_caller_that_waits_is_woken_or_sees_the_answer_and_one_side_frees_the_slot() {
    check(|| {
        let target = Target::new(1);
        let waker = Waker::new();
        let nth = target.claim().unwrap();
        assert!(target.post(nth, &waker));
        let runs = Arc::clone(&target);
        let thread = thread::spawn(move || assert_eq!(runs.run(), 1));
        let answered = target.slot(nth).answer();
        if let Some(answer) = answered {
            target.take(nth, answer);
        }
        thread.join().unwrap();
        if answered.is_none() {
            assert!(waker.woken(), "it waits for ever");
            target.take(nth, target.slot(nth).answer().unwrap());
        }
        assert_eq!(target.freed.load(Ordering::SeqCst), 1);
        assert_eq!(target.claim(), Some(nth));
    });
}

#[test]
fn a_caller_may_change_its_waker_at_any_moment() {
    check(|| {
        let target = Target::new(1);
        let (first, second) = (Waker::new(), Waker::new());
        let nth = target.claim().unwrap();
        assert!(target.post(nth, &first));
        let runs = Arc::clone(&target);
        let thread = thread::spawn(move || assert_eq!(runs.run(), 1));
        // SAFETY: the caller has not left.
        drop(unsafe { target.slot(nth).change_waker(second.clone()) });
        let seen = target.slot(nth).answer().is_some();
        thread.join().unwrap();
        assert!(seen || second.woken(), "it waits for ever");
        target.take(nth, target.slot(nth).answer().unwrap());
        assert_eq!(target.freed.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_caller_that_goes_away_at_any_moment_leaves_the_body_to_one_side() {
    check(|| {
        let target = Target::new(1);
        let waker = Waker::new();
        let nth = target.claim().unwrap();
        assert!(target.post(nth, &waker));
        let runs = Arc::clone(&target);
        let thread = thread::spawn(move || assert_eq!(runs.run(), 1));
        if let Some(answer) = target.slot(nth).give_up() {
            target.take(nth, answer);
        }
        thread.join().unwrap();
        assert_eq!(target.freed.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_call_that_meets_the_close_is_refused_once_and_has_its_closure() {
    check(|| {
        let target = Target::new(1);
        let waker = Waker::new();
        let nth = target.claim().unwrap();
        let closes = Arc::clone(&target);
        let thread = thread::spawn(move || {
            closes.inbox.close(|nth| closes.link(nth), |nth| closes.answer(nth, Answer::Refused));
        });
        let posted = target.post(nth, &waker);
        thread.join().unwrap();
        if posted {
            assert!(waker.woken());
            assert_eq!(target.slot(nth).answer(), Some(Answer::Refused));
            target.take(nth, Answer::Refused);
        } else {
            assert_eq!(target.put(nth, EMPTY), CLOSURE);
            target.free(nth);
        }
        assert!(target.inbox.is_closed() && target.inbox.is_empty());
        assert_eq!(target.freed.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn two_callers_keep_their_order_and_lose_nothing() {
    check(|| {
        let target = Target::new(3);
        let mut taken = Vec::new();
        let posts = Arc::clone(&target);
        let thread = thread::spawn(move || {
            let nth = posts.claim().unwrap();
            assert!(posts.post(nth, &Waker::new()));
            nth
        });
        let own: Vec<_> = (0..2)
            .map(|_| {
                let nth = target.claim().unwrap();
                assert!(target.post(nth, &Waker::new()));
                nth
            })
            .collect();
        target.inbox.take(|nth| target.link(nth), |nth| taken.push(nth));
        let other = thread.join().unwrap();
        target.inbox.take(|nth| target.link(nth), |nth| taken.push(nth));
        assert_eq!(taken.len(), 3);
        assert!(taken.contains(&other));
        let order: Vec<_> = taken.into_iter().filter(|nth| *nth != other).collect();
        assert_eq!(order, own);
    });
}

#[test]
fn slots_are_claimed_by_one_at_a_time() {
    check(|| {
        let target = Target::new(2);
        let both: Vec<_> = (0..2)
            .map(|_| {
                let target = Arc::clone(&target);
                thread::spawn(move || {
                    for _ in 0..2 {
                        let nth = target.claim().expect("a slot for each");
                        assert_eq!(target.put(nth, CLOSURE), EMPTY);
                        target.put(nth, EMPTY);
                        target.free(nth);
                    }
                })
            })
            .collect();
        for thread in both {
            thread.join().unwrap();
        }
        assert!(target.claim().is_some() && target.claim().is_some() && target.claim().is_none());
    });
}

#[test]
fn one_that_waits_for_room_finds_it_or_is_handed_it() {
    check(|| {
        let target = Target::new(1);
        let nth = target.claim().unwrap();
        let waits = Arc::clone(&target);
        let thread = thread::spawn(move || waits.room.ask(1, |nth| waits.link(nth)));
        target.free(nth);
        let found = thread.join().unwrap();
        let handed = target.handed[1].pop(|nth| target.link(nth));
        assert_eq!(found.or(handed), Some(nth), "it waits for ever");
        assert!(found.is_none() || handed.is_none());
    });
}

#[test]
fn of_two_that_wait_one_has_the_slot_and_the_other_is_next() {
    check(|| {
        let target = Target::new(1);
        let nth = target.claim().unwrap();
        let waiters: Vec<_> = (0..2)
            .map(|waiter| {
                let target = Arc::clone(&target);
                thread::spawn(move || target.room.ask(waiter, |nth| target.link(nth)))
            })
            .collect();
        target.free(nth);
        let found: Vec<_> = waiters.into_iter().map(|thread| thread.join().unwrap()).collect();
        let handed = |waiter: usize| target.handed[waiter].pop(|nth| target.link(nth));
        let first = (0..2).find(|waiter| found[*waiter].or_else(|| handed(*waiter)).is_some());
        let first = first.expect("both wait for ever");
        // What it is done with reaches the other, who may be handed it after a stale word of the
        // first's.
        target.free(nth);
        if handed(first).is_some() {
            target.free(nth);
        }
        assert_eq!(handed(1 - first), Some(nth), "the other waits for ever");
    });
}
