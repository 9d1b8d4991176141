//! A ring of text records that any thread writes and one at a time reads.
//!
//! A record lies in one slot or in several that follow each other. Writers claim slots by moving the
//! tail, write, and publish the first slot; the reader takes records from the head in order and frees
//! their slots in order. So where the last slot of a claim is free, those before it are. Nobody waits: a
//! record that finds no room is refused and counted, and a reader that finds the first record claimed
//! and not published yet comes back. Words are atomic, so nothing here is unsafe. This file stands
//! alone, so that `tests/loom` checks it as it is.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Words of text in a slot.
const WORDS: usize = if cfg!(loom) { 1 } else { 14 };
/// Bytes of text in a slot.
pub(super) const SLOT: usize = WORDS * 8;
/// Slots that one record may take.
const SLOTS_A_RECORD: usize = if cfg!(loom) { 2 } else { 9 };
/// Bytes of the longest record.
pub(super) const RECORD_MAX: usize = SLOT * SLOTS_A_RECORD;

/// A slot, as the state of the lap it is in; all zero is free in the first.
///
/// ```text
///              claim, write, publish              take
///  Free (2 n) ---------- 1 ----------> Full (2 n + 1) --- 2 ---> Free (2 n + 2)
/// ```
///
/// 1 [`Records::push`] of a record's first slot; its others stay as they are. 2 [`Records::take`], of
/// all of them.
struct Slot {
    state: AtomicU64,
    /// Bytes of the record that begins here.
    len: AtomicU64,
    text: [AtomicU64; WORDS],
}

/// The ring. `SLOTS` is a power of two.
pub(super) struct Records<const SLOTS: usize> {
    slots: [Slot; SLOTS],
    /// Positions, counted from the begin of the program: where the next record goes, and where the
    /// first one is that is not taken.
    tail: AtomicU64,
    head: AtomicU64,
    /// Records that were refused.
    refused: AtomicU64,
    /// Somebody takes.
    taking: AtomicBool,
}

impl Slot {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            len: AtomicU64::new(0),
            text: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    #[cfg(loom)]
    fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            len: AtomicU64::new(0),
            text: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

const fn slots_of(len: usize) -> u64 {
    if len == 0 { 1 } else { len.div_ceil(SLOT) as u64 }
}

impl<const SLOTS: usize> Records<SLOTS> {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        assert!(
            SLOTS.is_power_of_two() && SLOTS >= SLOTS_A_RECORD,
            "kio: a logger has a power of two of slots, 16 or more"
        );
        Self {
            slots: [const { Slot::new() }; SLOTS],
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            taking: AtomicBool::new(false),
        }
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            slots: core::array::from_fn(|_| Slot::new()),
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            taking: AtomicBool::new(false),
        }
    }

    fn slot(&self, position: u64) -> &Slot {
        &self.slots[position as usize % SLOTS]
    }

    /// The state of a slot that is free for this position.
    fn free(position: u64) -> u64 {
        position / SLOTS as u64 * 2
    }

    /// 1: writes a record of at most [`RECORD_MAX`] bytes; false, and counted, where there is no room.
    /// Never waits: each failed turn of the loop is another thread's record written.
    pub(super) fn push(&self, text: &[u8]) -> bool {
        let text = &text[..text.len().min(RECORD_MAX)];
        let slots = slots_of(text.len());
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            let last = tail + slots - 1;
            // Acquire: who freed it has read what was there.
            if self.slot(last).state.load(Ordering::Acquire) == Self::free(last) {
                let claimed = self.tail.compare_exchange_weak(
                    tail,
                    tail + slots,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                match claimed {
                    Ok(_) => break,
                    Err(now) => tail = now,
                }
            } else {
                let now = self.tail.load(Ordering::Relaxed);
                if now == tail {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return false;
                }
                tail = now;
            }
        }
        for (i, word) in text.chunks(8).enumerate() {
            let slot = self.slot(tail + (i / WORDS) as u64);
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            slot.text[i % WORDS].store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        let first = self.slot(tail);
        first.len.store(text.len() as u64, Ordering::Relaxed);
        first.state.store(Self::free(tail) + 1, Ordering::Release);
        true
    }

    /// Whether a record is there to be taken.
    pub(super) fn has_any(&self) -> bool {
        let head = self.head.load(Ordering::Acquire);
        self.slot(head).state.load(Ordering::Acquire) == Self::free(head) + 1
    }

    /// 2: gives records to `each`, in order, until there is none or `each` says false: that one stays.
    /// Does nothing while another thread does so.
    pub(super) fn take(&self, mut each: impl FnMut(&[u8]) -> bool) {
        if self.taking.swap(true, Ordering::Acquire) {
            return;
        }
        let mut head = self.head.load(Ordering::Relaxed);
        let mut text = [0; RECORD_MAX];
        while self.slot(head).state.load(Ordering::Acquire) == Self::free(head) + 1 {
            let len = (self.slot(head).len.load(Ordering::Relaxed) as usize).min(RECORD_MAX);
            for (i, word) in text[..len].chunks_mut(8).enumerate() {
                let slot = self.slot(head + (i / WORDS) as u64);
                let bytes = slot.text[i % WORDS].load(Ordering::Relaxed).to_le_bytes();
                word.copy_from_slice(&bytes[..word.len()]);
            }
            if !each(&text[..len]) {
                break;
            }
            for _ in 0..slots_of(len) {
                self.slot(head).state.store(Self::free(head) + 2, Ordering::Release);
                head += 1;
            }
            self.head.store(head, Ordering::Release);
        }
        self.taking.store(false, Ordering::Release);
    }

    /// Where the next record goes.
    pub(super) fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Up to where all are taken.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// How many were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
