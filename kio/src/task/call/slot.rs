//! Slots of calls that cross workers: whose a slot is, and how it is handed over.
//!
//! A call arena belongs to the worker that runs the calls (the target), yet callers on other threads
//! claim its slots, write to them and free them. So claiming is a stack that any thread pops and
//! pushes, posting is an inbox, and each slot has one word by which caller and target let go of it
//! in any order: the second to do so frees it. Nothing here knows what is in a slot's body, but the
//! steps say whose its bytes are. This file stands alone, so that `tests/loom` checks it as it is.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
use self::plain::UnsafeCell;
#[cfg(loom)]
use loom::cell::UnsafeCell;

/// A call's slot, and who owns the body's bytes [in brackets].
///
/// ```text
///          claim             post              take              finish             both have left
///  Free ----1----> Claimed ----2----> Posted ----3----> Running ----4----> Answered -----5-----> Free
///  [nobody]        [caller]          [target]          [target]           [caller]
///                     | 6: unclaim       |                 |
///                     v                  +--- 7: give_up --+
///                    Free                       v
///                                    Given up [target] ----8: finish, free----> Free
/// ```
///
/// 1 [`Room::claim`], which [`CallSlot::claimed`] follows; 2 [`Inbox::push`]; 3 [`Inbox::take`];
/// 4 [`CallSlot::finish`]; 5 [`CallSlot::caller_left`] and [`CallSlot::target_left`], whoever is
/// second; 6 [`CallSlot::clear`], where the inbox was closed; 7 [`CallSlot::give_up`], which finds an
/// answer where 4 came first; 8 as the target learns at 4 that nobody waits. Whoever frees calls
/// [`CallSlot::clear`] and [`Room::give_back`].
pub(crate) struct CallSlot<W> {
    state: AtomicU32,
    /// Whom to wake with the answer. The caller's while `WAKER` is not set, the target's once it is
    /// set together with `DONE`.
    waker: UnsafeCell<Option<W>>,
    link: Link,
}

/// A slot's place in the free list or in the inbox: index + 1 of the next.
pub(crate) struct Link(AtomicU32);

/// What has become of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It ended; its value is in the body.
    Value,
    /// It was not begun; the closure is in the body.
    Refused,
    /// It panicked, or was dropped; nothing is in the body.
    Lost,
}

/// Taken from the free list.
const CLAIMED: u32 = 1;
/// The waker is there.
const WAKER: u32 = 1 << 1;
/// Answered; the next two say how.
const DONE: u32 = 1 << 2;
const VALUE: u32 = 1 << 3;
const REFUSED: u32 = 1 << 4;
/// The caller went away before there was an answer.
const GIVEN_UP: u32 = 1 << 5;
/// The side touches the slot no more.
const CALLER_LEFT: u32 = 1 << 6;
const TARGET_LEFT: u32 = 1 << 7;

impl Answer {
    const fn bits(self) -> u32 {
        match self {
            Self::Value => DONE | VALUE,
            Self::Refused => DONE | REFUSED,
            Self::Lost => DONE,
        }
    }

    const fn of(state: u32) -> Option<Self> {
        match state {
            _ if state & DONE == 0 => None,
            _ if state & VALUE != 0 => Some(Self::Value),
            _ if state & REFUSED != 0 => Some(Self::Refused),
            _ => Some(Self::Lost),
        }
    }
}

macro_rules! const_unless_loom {
    ($($(#[$attr:meta])* fn $name:ident() -> Self $body:block)*) => {
        $(
            $(#[$attr])*
            #[cfg(not(loom))]
            pub(crate) const fn $name() -> Self $body
            #[cfg(loom)]
            pub(crate) fn $name() -> Self $body
        )*
    };
}

impl<W> CallSlot<W> {
    const_unless_loom! {
        fn new() -> Self {
            Self {
                state: AtomicU32::new(0),
                waker: UnsafeCell::new(None),
                link: Link(AtomicU32::new(0)),
            }
        }
    }

    /// Where it is linked.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Whether it is not free. To be asked when no call is about.
    pub(crate) fn is_taken(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    // ---- the caller ----

    /// 1: the caller has claimed it, and will be woken by this. None where nobody is woken.
    ///
    /// # Safety
    /// The calling thread has just claimed the slot.
    pub(crate) unsafe fn claimed(&self, waker: Option<W>) {
        let bits = if waker.is_some() { CLAIMED | WAKER } else { CLAIMED };
        // SAFETY: a claimed slot is the claimer's alone.
        drop(self.waker.with_mut(|kept| unsafe { core::mem::replace(&mut *kept, waker) }));
        // Published by the push.
        self.state.store(bits, Ordering::Relaxed);
    }

    /// The answer, if it is there: then the body is the caller's.
    pub(crate) fn answer(&self) -> Option<Answer> {
        Answer::of(self.state.load(Ordering::Acquire))
    }

    /// Another waker from now on. Returns what is to be dropped: the one before, or this where the
    /// answer is there.
    ///
    /// # Safety
    /// The calling thread is the caller's, and has not left nor given up.
    pub(crate) unsafe fn change_waker(&self, waker: W) -> Option<W> {
        let swap = |waker| {
            // SAFETY: without `WAKER`, or where `DONE` came while it was not set, the waker is the
            // caller's.
            self.waker.with_mut(|kept| unsafe { core::mem::replace(&mut *kept, waker) })
        };
        if self.state.fetch_and(!WAKER, Ordering::AcqRel) & DONE != 0 {
            // The target saw `WAKER`, and has the one before.
            return Some(waker);
        }
        let before = swap(Some(waker));
        if self.state.fetch_or(WAKER, Ordering::AcqRel) & DONE != 0 {
            return swap(before);
        }
        before
    }

    /// 7: the caller goes away. With an answer the body is the caller's, who must empty it and leave;
    /// without, the target's, and the slot must not be touched again.
    pub(crate) fn give_up(&self) -> Option<Answer> {
        Answer::of(self.state.fetch_or(GIVEN_UP, Ordering::AcqRel))
    }

    /// 5: the caller has emptied the body. Whether it must free the slot.
    pub(crate) fn caller_left(&self) -> bool {
        self.state.fetch_or(CALLER_LEFT, Ordering::AcqRel) & TARGET_LEFT != 0
    }

    // ---- the target ----

    /// Whether the caller went away without an answer.
    pub(crate) fn is_given_up(&self) -> bool {
        self.state.load(Ordering::Acquire) & GIVEN_UP != 0
    }

    /// 4: the target answers, and gets whom to wake, once it has left. `Err` where nobody waits: then
    /// the body is still the target's, who must empty it and free the slot.
    ///
    /// # Safety
    /// The calling thread is the target's, which has taken the slot and not answered; what the
    /// answer says of the body holds.
    pub(crate) unsafe fn finish(&self, answer: Answer) -> Result<Option<W>, ()> {
        let before = self.state.fetch_or(answer.bits(), Ordering::AcqRel);
        if before & GIVEN_UP != 0 {
            return Err(());
        }
        if before & WAKER == 0 {
            return Ok(None);
        }
        // SAFETY: with both bits set the waker is the target's, until it leaves.
        Ok(self.waker.with_mut(|kept| unsafe { (*kept).take() }))
    }

    /// 5: the target touches the slot no more. Whether it must free the slot.
    pub(crate) fn target_left(&self) -> bool {
        self.state.fetch_or(TARGET_LEFT, Ordering::AcqRel) & CALLER_LEFT != 0
    }

    // ---- whoever frees ----

    /// Back to rest, before it goes back on the free list. Returns a waker that nobody used.
    ///
    /// # Safety
    /// The slot is the calling thread's alone: both sides have left, or the caller gave it up and the
    /// target has answered, or it was claimed and not posted.
    pub(crate) unsafe fn clear(&self) -> Option<W> {
        // SAFETY: the caller of this function vouches for it.
        let waker = self.waker.with_mut(|kept| unsafe { (*kept).take() });
        // Published by the release.
        self.state.store(0, Ordering::Relaxed);
        waker
    }
}

/// The free slots of a call arena, and who waits for one. A slot that is given back while somebody
/// waits is handed to one of them, in turn, so that nobody who comes later can take it.
pub(crate) struct Room {
    free: FreeList,
    waiting: WorkerSet,
}

impl Room {
    const_unless_loom! {
        fn new() -> Self { Self { free: FreeList::new(), waiting: WorkerSet::new() } }
    }

    /// All slots are free and nobody waits. Nobody else may use it meanwhile.
    pub(crate) fn set_up<'a>(&self, count: u32, link: impl Fn(u32) -> &'a Link) {
        self.free.set_up(count, link);
        self.waiting.take_all(u32::MAX, |_| {});
    }

    /// 1: takes a free slot.
    pub(crate) fn claim<'a>(&self, link: impl Fn(u32) -> &'a Link) -> Option<u32> {
        self.free.claim(link)
    }

    /// Says that `waiter` waits, and looks once more: of this and a slot that is given back at least
    /// one sees the other. With a slot it need not wait, and may be handed one more.
    pub(crate) fn ask<'a>(&self, waiter: u32, link: impl Fn(u32) -> &'a Link) -> Option<u32> {
        self.waiting.insert(waiter);
        self.free.has_room().then(|| self.free.claim(link)).flatten()
    }

    /// Gives a cleared slot back. Where one of so many waits the caller must hand it this slot.
    pub(crate) fn give_back<'a>(
        &self,
        mut slot: u32,
        waiters: u32,
        link: impl Fn(u32) -> &'a Link,
    ) -> Option<(u32, u32)> {
        loop {
            if let Some(waiter) = self.waiting.take_one(waiters) {
                return Some((waiter, slot));
            }
            self.free.release(slot, link(slot));
            // One may have asked between the two.
            if self.waiting.is_empty(waiters) {
                return None;
            }
            // Where another has it by now, that one gives it back.
            slot = self.free.claim(&link)?;
        }
    }

    /// Takes out all who wait: nothing is given any more.
    pub(crate) fn dismiss(&self, waiters: u32, each: impl FnMut(u32)) {
        self.waiting.take_all(waiters, each);
    }
}

/// Slots that were handed to one waiter. Pushed by any thread and popped by one, so no ABA.
pub(crate) struct Handed {
    /// Index + 1 of the last.
    head: AtomicU32,
}

impl Handed {
    const_unless_loom! {
        fn new() -> Self { Self { head: AtomicU32::new(0) } }
    }

    /// Forgets what is there. Nobody else may use it meanwhile.
    pub(crate) fn clear(&self) {
        self.head.store(0, Ordering::Relaxed);
    }

    /// Hands a slot over.
    pub(crate) fn push(&self, slot: u32, link: &Link) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.0.store(head, Ordering::Relaxed);
            match self.replace(head, slot + 1) {
                Ok(()) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes one; by its owner only.
    pub(crate) fn pop<'a>(&self, link: impl Fn(u32) -> &'a Link) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let slot = head.checked_sub(1)?;
            match self.replace(head, link(slot).0.load(Ordering::Relaxed)) {
                Ok(()) => return Some(slot),
                Err(now) => head = now,
            }
        }
    }

    fn replace(&self, head: u32, first: u32) -> Result<(), u32> {
        self.head
            .compare_exchange_weak(head, first, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }

    /// Whether none is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Acquire) == 0
    }
}

/// The free slots of a call arena, last freed first. Popped by any thread, so the head carries a
/// count that changes each time (ABA).
struct FreeList {
    /// Index + 1 of the first, and the count above it.
    head: AtomicU64,
}

impl FreeList {
    const_unless_loom! {
        fn new() -> Self { Self { head: AtomicU64::new(0) } }
    }

    /// Puts the first `count` slots on it, in order. Nobody else may use it meanwhile.
    fn set_up<'a>(&self, count: u32, link: impl Fn(u32) -> &'a Link) {
        for index in 0..count {
            let next = if index + 1 < count { index + 2 } else { 0 };
            link(index).0.store(next, Ordering::Relaxed);
        }
        self.head.store(u64::from(count > 0), Ordering::Release);
    }

    fn claim<'a>(&self, link: impl Fn(u32) -> &'a Link) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = link(index).0.load(Ordering::Relaxed);
            match self.replace(head, next) {
                Ok(()) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Gives a slot back that was cleared.
    fn release(&self, index: u32, link: &Link) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.0.store(head as u32, Ordering::Relaxed);
            match self.replace(head, index + 1) {
                Ok(()) => return,
                Err(now) => head = now,
            }
        }
    }

    fn replace(&self, head: u64, first: u32) -> Result<(), u64> {
        let next = ((head >> 32) + 1) << 32 | u64::from(first);
        self.head.compare_exchange_weak(head, next, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    /// Whether there is room, for one that has said that it waits. A read-modify-write, so that a
    /// release which it does not see comes after it, and sees who waits.
    fn has_room(&self) -> bool {
        self.head.fetch_or(0, Ordering::AcqRel) as u32 != 0
    }
}

/// The calls posted to one worker. Pushed one by one, taken all at once, so no ABA.
pub(crate) struct Inbox {
    /// Index + 1 of the newest.
    head: AtomicU32,
}

/// What is in an inbox once its worker takes no more.
const CLOSED: u32 = u32::MAX;

impl Inbox {
    const_unless_loom! {
        fn new() -> Self { Self { head: AtomicU32::new(0) } }
    }

    /// Takes calls from here on.
    pub(crate) fn open(&self) {
        self.head.store(0, Ordering::Release);
    }

    /// 2: posts a claimed slot. False where the inbox is closed: the slot is still the caller's.
    pub(crate) fn push(&self, index: u32, link: &Link) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                return false;
            }
            link.0.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(
                head,
                index + 1,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Whether nothing was posted, at a glance.
    pub(crate) fn seems_empty(&self) -> bool {
        matches!(self.head.load(Ordering::Acquire), 0 | CLOSED)
    }

    /// The same, for certain: the look before sleeping (see `RemoteStack::is_empty`).
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.head.fetch_or(0, Ordering::SeqCst), 0 | CLOSED)
    }

    /// Whether it is closed. A read-modify-write: one that says that it waits and does not see the
    /// close is seen by it.
    pub(crate) fn is_closed(&self) -> bool {
        self.head.fetch_or(0, Ordering::AcqRel) == CLOSED
    }

    /// 3: takes all that is posted, oldest first, so that each caller's calls stay in order.
    pub(crate) fn take<'a>(&self, link: impl Fn(u32) -> &'a Link, each: impl FnMut(u32)) {
        // One that is closed stays so: only its own worker closes it.
        let head = match self.head.load(Ordering::Relaxed) {
            CLOSED => 0,
            _ => self.head.swap(0, Ordering::AcqRel),
        };
        in_order(head, link, each);
    }

    /// Takes nothing more, and gives what is posted to `each`.
    pub(crate) fn close<'a>(&self, link: impl Fn(u32) -> &'a Link, each: impl FnMut(u32)) {
        let head = self.head.swap(CLOSED, Ordering::AcqRel);
        in_order(if head == CLOSED { 0 } else { head }, link, each);
    }
}

/// Turns a list that has the newest first round, and walks it.
fn in_order<'a>(newest: u32, link: impl Fn(u32) -> &'a Link, mut each: impl FnMut(u32)) {
    let (mut at, mut oldest) = (newest, 0);
    while at != 0 {
        let link = &link(at - 1).0;
        let next = link.load(Ordering::Relaxed);
        link.store(oldest, Ordering::Relaxed);
        oldest = at;
        at = next;
    }
    while oldest != 0 {
        let index = oldest - 1;
        // Before `each`, which may free the slot.
        oldest = link(index).0.load(Ordering::Relaxed);
        each(index);
    }
}

/// A set of workers, and one more who may wait (see [`Room`]), that any thread changes.
pub(crate) struct WorkerSet {
    words: [AtomicU64; WORDS],
    /// Where the next look begins, so that all have their turn.
    turn: AtomicU32,
}

/// Words for 256 workers and one more.
const WORDS: usize = 5;

impl WorkerSet {
    const_unless_loom! {
        fn new() -> Self {
            Self {
                words: [
                    AtomicU64::new(0),
                    AtomicU64::new(0),
                    AtomicU64::new(0),
                    AtomicU64::new(0),
                    AtomicU64::new(0),
                ],
                turn: AtomicU32::new(0),
            }
        }
    }

    /// Adds one.
    pub(crate) fn insert(&self, worker: u32) {
        self.words[worker as usize / 64].fetch_or(1 << (worker % 64), Ordering::SeqCst);
    }

    /// Takes one out, in turn, of a pool with so many.
    pub(crate) fn take_one(&self, workers: u32) -> Option<u32> {
        let words = workers.div_ceil(64);
        let turn = self.turn.load(Ordering::Relaxed) % workers.max(1);
        for nth in 0..words {
            let at = (turn / 64 + nth) % words;
            let word = &self.words[at as usize];
            // A read-modify-write: what is added after it finds what was given back before.
            let mut bits = word.fetch_or(0, Ordering::SeqCst);
            while bits != 0 {
                // In the word of the turn those from it on come first.
                let later = if nth == 0 { bits & u64::MAX << (turn % 64) } else { 0 };
                let from = if later != 0 { later } else { bits };
                let bit = from & from.wrapping_neg();
                if word.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
                    let worker = at * 64 + bit.trailing_zeros();
                    self.turn.store(worker + 1, Ordering::Relaxed);
                    return Some(worker);
                }
                bits &= !bit;
            }
        }
        None
    }

    /// Takes all out, and gives each to `each`.
    pub(crate) fn take_all(&self, workers: u32, mut each: impl FnMut(u32)) {
        for (at, word) in (0..workers.div_ceil(64)).zip(&self.words) {
            let mut bits = word.swap(0, Ordering::SeqCst);
            while bits != 0 {
                each(at * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }

    /// Whether none is in it, at a glance.
    pub(crate) fn seems_empty(&self, workers: u32) -> bool {
        let words = workers.div_ceil(64) as usize;
        self.words[..words].iter().all(|word| word.load(Ordering::Acquire) == 0)
    }

    /// The same, for certain: the look before sleeping.
    pub(crate) fn is_empty(&self, workers: u32) -> bool {
        let words = workers.div_ceil(64) as usize;
        self.words[..words].iter().all(|word| word.fetch_or(0, Ordering::SeqCst) == 0)
    }
}

/// The face of loom's cell.
#[cfg(not(loom))]
mod plain {
    pub(super) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(super) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        pub(super) fn with_mut<R>(&self, run: impl FnOnce(*mut T) -> R) -> R {
            run(self.0.get())
        }
    }
}
