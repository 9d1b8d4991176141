//! The workers of a pool, as their tasks know each other, and the wake-ups that one owes the others.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use super::{Published, Tasks};
use crate::ring::sys::ring_eventfd;

/// Most workers a pool may have.
pub(crate) const WORKERS_MAX: usize = 256;

/// The tasks of each worker of a pool. Part of its shared static.
pub(crate) struct Peers {
    tasks: [Published<Tasks>; WORKERS_MAX],
    workers: AtomicU32,
}

impl Peers {
    pub(crate) const fn new() -> Self {
        Self { tasks: [const { Published::new() }; WORKERS_MAX], workers: AtomicU32::new(0) }
    }

    /// A new run of so many workers.
    pub(crate) fn begin(&self, workers: u32) {
        self.workers.store(workers, Ordering::Relaxed);
    }

    pub(crate) fn keep(&self, worker: u32, tasks: &'static Tasks) {
        self.tasks[worker as usize].set(tasks);
    }

    /// How many workers run.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.workers.load(Ordering::Relaxed)
    }

    /// A worker's tasks. Of them only what is atomic may be touched by others, and, once all workers
    /// have started, what was set before.
    pub(crate) fn at(&self, worker: u32) -> Option<&'static Tasks> {
        self.tasks.get(worker as usize)?.get()
    }

    /// The worker whose thread calls, if one's does.
    fn current(&self) -> Option<&'static Tasks> {
        let run = &self.tasks[..self.count() as usize];
        run.iter().filter_map(Published::get).find(|tasks| tasks.owner.is_current())
    }
}

/// Whom a worker has left something to find since its last enter. It looks whether they sleep, and
/// wakes those that do, at its next: so many posts are one wake-up, and one look.
pub(crate) struct Owed([Cell<u64>; WORKERS_MAX / 64]);

impl Owed {
    pub(crate) const fn new() -> Self {
        Self([const { Cell::new(0) }; WORKERS_MAX / 64])
    }

    fn add(&self, worker: u32) {
        let word = &self.0[worker as usize / 64];
        word.set(word.get() | 1 << (worker % 64));
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.get() == 0)
    }

    fn take(&self) -> Option<u32> {
        let (at, word) = (0..).zip(&self.0).find(|(_, word)| word.get() != 0)?;
        let bits = word.get();
        word.set(bits & (bits - 1));
        Some(at * 64 + bits.trailing_zeros())
    }
}

impl Tasks {
    /// The workers of this pool; none before a worker's first set-up.
    pub(super) fn peers(&self) -> Option<&'static Peers> {
        self.peers.get()
    }

    /// The tasks of a worker of this pool.
    pub(super) fn peer(&self, worker: u32) -> Option<&'static Self> {
        self.peers()?.at(worker)
    }

    /// Wakes the worker if it sleeps; the caller has left it something to find. A worker of the same
    /// pool does so with its next enter, and through its ring; any other thread at once.
    pub(crate) fn ring_bell(&self) {
        if !self.bell.is_sleeping() {
            return;
        }
        match self.peers().and_then(Peers::current) {
            Some(worker) => worker.owe(self.worker()),
            None if self.bell.must_ring() => self.ring_eventfd(),
            None => {}
        }
    }

    /// The same, on the thread of a worker of the pool, who need not be looked for.
    pub(crate) fn owe(&self, worker: u32) {
        debug_assert!(self.owner.is_current());
        if worker != self.worker() {
            self.owed.add(worker);
        }
    }

    /// Whether somebody waits for a wake-up that the next enter brings.
    #[inline]
    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// The next worker that sleeps and has something to find, and its ring's descriptor.
    #[inline]
    pub(crate) fn next_owed(&self) -> Option<(u32, i32)> {
        while let Some(worker) = self.owed.take() {
            let Some(peer) = self.peer(worker).filter(|peer| peer.bell.must_ring()) else {
                continue;
            };
            match peer.ring.load(Ordering::Acquire) {
                0 => peer.ring_eventfd(),
                ring => return Some((worker, ring - 1)),
            }
        }
        None
    }

    /// Wakes all that are owed it, at once: this worker enters no more, or its message failed.
    pub(crate) fn settle(&self) {
        while let Some(worker) = self.owed.take() {
            if let Some(peer) = self.peer(worker).filter(|peer| peer.bell.must_ring()) {
                peer.ring_eventfd();
            }
        }
    }

    /// A message to a worker's ring failed: it is woken as foreign threads wake it.
    #[cold]
    pub(crate) fn message_failed(&self, worker: u32) {
        if let Some(peer) = self.peer(worker) {
            peer.ring_eventfd();
        }
    }

    fn ring_eventfd(&self) {
        ring_eventfd(self.eventfd.load(Ordering::Relaxed) - 1);
    }
}
