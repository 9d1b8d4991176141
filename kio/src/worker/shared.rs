//! What the workers of a pool share: the phase, the ports, the first error.

#[cfg(feature = "std")]
use core::sync::atomic::AtomicI32;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Parts;
use crate::task::{Peers, Published, WORKERS_MAX};
#[cfg(feature = "std")]
use {
    crate::error::{Error, Held},
    core::net::SocketAddr,
    std::sync::{Condvar, Mutex, MutexGuard, PoisonError},
    std::thread::JoinHandle,
};

/// A pool's life.
///
/// ```text
///        start             all ready          stop, signal, entry Err      second signal
///  Idle ---1---> Starting -----2----> Running ---------3--------> Stopping -----4----> Dropping
///    ^                                                                  \               /
///    +----------- 5: joined, nothing held ------- (else: Retired) -------+-------------+
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub(crate) enum Phase {
    Idle = 0,
    Starting,
    Running,
    Stopping,
    Dropping,
    Retired,
}

/// The shared part of a pool; a static.
pub struct Shared {
    phase: AtomicU32,
    /// Workers of this run.
    pub(crate) workers: AtomicU32,
    /// Each worker's parts, known from the moment it is set up: what other workers post to.
    peers: [Published<Parts>; WORKERS_MAX],
    /// The same, on the floor of tasks.
    tasks: Peers,
    /// How many workers have passed each barrier of the stop.
    passed: [AtomicU32; 2],
    /// How often each signal came.
    pub(crate) signals: [AtomicU32; 65],
    /// How many signals came in all.
    came: AtomicU32,
    /// The hash of the directory where relative paths begin; 0 before the first worker has told it.
    base: AtomicU64,
    #[cfg(feature = "std")]
    pub(crate) resolver: super::Resolver,
    /// The descriptor + 1 that wakes each worker; see `Tasks::eventfd`.
    #[cfg(feature = "std")]
    eventfds: [AtomicI32; WORKERS_MAX],
    #[cfg(feature = "std")]
    locked: Mutex<Locked>,
    #[cfg(feature = "std")]
    changed: Condvar,
}

/// What is rare enough for a lock.
#[cfg(feature = "std")]
struct Locked {
    ports: heapless::Vec<Port, 32>,
    /// The first error of the run.
    error: Option<Error>,
    /// Workers that came through their set-up, and those that ended.
    ready: u32,
    ended: u32,
    /// The handle was dropped on a worker of the pool, which could not wait for itself.
    abandoned: bool,
    held: Held,
    threads: heapless::Vec<JoinHandle<()>, WORKERS_MAX>,
}

/// Where a stopping worker waits for the others, in this order. A stop is a barrier: what one asks of
/// another is answered, and memory and ring are there as long as anybody may touch them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Barrier {
    /// Nothing is left to serve here; until all say so, each goes on answering the others.
    Drained = 0,
    /// Its tasks are gone, all posted to it is answered, and it will send nothing more: once all say
    /// so, rings may go.
    Quiet,
}

/// An address the pool listens on.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    /// As asked for.
    pub(crate) asked: SocketAddr,
    /// As bound: port 0 is resolved.
    pub(crate) bound: SocketAddr,
    /// Listeners on it.
    pub(crate) users: u32,
    /// The descriptor that all workers accept from, with `accept = shared`; else -1.
    pub(crate) shared_fd: i32,
}

impl Shared {
    /// A pool at rest.
    #[allow(clippy::new_without_default, reason = "only statics are made of it")]
    pub const fn new() -> Self {
        Self {
            phase: AtomicU32::new(Phase::Idle as u32),
            workers: AtomicU32::new(0),
            peers: [const { Published::new() }; WORKERS_MAX],
            tasks: Peers::new(),
            passed: [const { AtomicU32::new(0) }; 2],
            signals: [const { AtomicU32::new(0) }; 65],
            came: AtomicU32::new(0),
            base: AtomicU64::new(0),
            #[cfg(feature = "std")]
            resolver: super::Resolver::new(),
            #[cfg(feature = "std")]
            eventfds: [const { AtomicI32::new(0) }; WORKERS_MAX],
            #[cfg(feature = "std")]
            locked: Mutex::new(Locked {
                ports: heapless::Vec::new(),
                error: None,
                ready: 0,
                ended: 0,
                abandoned: false,
                held: Held { ops: 0, tasks: 0, buffers: 0, sockets: 0, files: 0, guards: 0 },
                threads: heapless::Vec::new(),
            }),
            #[cfg(feature = "std")]
            changed: Condvar::new(),
        }
    }

    /// Whether the directory where a worker's relative paths begin is that of the others too: a path
    /// that is not the same file on all has no one owner.
    pub(crate) fn has_one_base(&self, base: &[u8]) -> bool {
        let hash = super::hash::hash(base).max(1);
        let told = self.base.compare_exchange(0, hash, Ordering::SeqCst, Ordering::SeqCst);
        told.is_ok() || told == Err(hash)
    }

    /// A worker is set up: others may post to it. All are before any task runs past the start.
    pub(crate) fn keep_peer(&self, worker: u32, parts: &'static Parts) {
        self.peers[worker as usize].set(parts);
    }

    /// The parts of a worker of this run, once they are set up; of them only what is atomic may be
    /// touched by others, and what was set before.
    pub(crate) fn peer(&self, worker: u32) -> Option<&'static Parts> {
        let known = worker < self.workers.load(Ordering::Relaxed);
        let peer = self.peers.get(worker as usize).filter(|_| known)?.get()?;
        // Acquire: its set-up came before (see `work`). In its last run's it is 0 again.
        (peer.tasks.ring.load(Ordering::Acquire) != 0).then_some(peer)
    }

    /// How the workers' tasks find each other.
    pub(crate) fn peers(&'static self) -> &'static Peers {
        &self.tasks
    }

    /// Whether all workers have passed the barrier.
    pub(crate) fn is_open(&self, barrier: Barrier) -> bool {
        let all = self.workers.load(Ordering::SeqCst);
        self.passed[barrier as usize].load(Ordering::SeqCst) >= all
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Idle,
            1 => Phase::Starting,
            2 => Phase::Running,
            3 => Phase::Stopping,
            4 => Phase::Dropping,
            _ => Phase::Retired,
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.phase.load(Ordering::SeqCst) >= Phase::Stopping as u32
    }

    /// Changes the phase from one to another; false where it was neither.
    pub(crate) fn change(&self, from: Phase, to: Phase) -> bool {
        self.phase
            .compare_exchange(from as u32, to as u32, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// A declared signal came.
    pub(crate) fn signal(&self, signal: i32) {
        self.signals[signal as usize].fetch_add(1, Ordering::SeqCst);
        self.came.fetch_add(1, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn signals_came(&self) -> u32 {
        self.came.load(Ordering::SeqCst)
    }

    /// 3 and 4: stops; a second time it ends the drain.
    pub(crate) fn stop_or_drop(&self) {
        if !self.change(Phase::Stopping, Phase::Dropping) {
            self.stop();
        }
    }

    /// 3: stops, if it runs; workers that sleep are woken to see it.
    pub(crate) fn stop(&self) {
        // Again, where it went from Starting to Running between the look and the change.
        let stopped = loop {
            let phase = self.phase();
            if !matches!(phase, Phase::Starting | Phase::Running) {
                break false;
            }
            if self.change(phase, Phase::Stopping) {
                break true;
            }
        };
        #[cfg(feature = "std")]
        if stopped {
            let lock = self.lock();
            self.changed.notify_all();
            drop(lock);
            self.ring_all();
        }
        #[cfg(not(feature = "std"))]
        let _ = stopped;
    }
}

#[cfg(feature = "std")]
impl Shared {
    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes every worker, whether it sleeps or not.
    fn ring_all(&self) {
        let workers = self.workers.load(Ordering::SeqCst) as usize;
        for eventfd in &self.eventfds[..workers] {
            crate::ring::sys::ring_eventfd(eventfd.load(Ordering::Relaxed) - 1);
        }
    }

    /// So many workers have passed the barrier; the last wakes those who wait there.
    pub(crate) fn pass(&self, barrier: Barrier, workers: u32) {
        let all = self.workers.load(Ordering::SeqCst);
        let passed = self.passed[barrier as usize].fetch_add(workers, Ordering::SeqCst) + workers;
        if passed >= all && all > 1 {
            let lock = self.lock();
            self.changed.notify_all();
            drop(lock);
            self.ring_all();
        }
    }

    /// Waits at a barrier, for a worker whose ring fails.
    pub(crate) fn wait_open(&self, barrier: Barrier) {
        let mut locked = self.lock();
        while !self.is_open(barrier) {
            locked = self.changed.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// 1: a new run of so many workers.
    pub(crate) fn begin(&self, workers: u32) {
        self.workers.store(workers, Ordering::SeqCst);
        self.tasks.begin(workers);
        self.base.store(0, Ordering::SeqCst);
        for passed in &self.passed {
            passed.store(0, Ordering::SeqCst);
        }
        let mut locked = self.lock();
        for port in &mut locked.ports {
            // Left by a listener that was forgotten.
            crate::ring::sys::close_fd(core::mem::replace(&mut port.shared_fd, -1));
        }
        locked.ports.clear();
        locked.error = None;
        locked.ready = 0;
        locked.ended = 0;
        locked.abandoned = false;
        locked.held = Held::default();
    }

    /// Back to rest after a run, or retired where something is still held.
    pub(crate) fn rest(&self) -> Held {
        let locked = self.lock();
        let held = locked.held;
        let phase = if held.is_empty() { Phase::Idle } else { Phase::Retired };
        self.phase.store(phase as u32, Ordering::SeqCst);
        self.changed.notify_all();
        held
    }

    /// The descriptor that wakes a worker.
    pub(crate) fn keep_eventfd(&self, worker: u32, eventfd: i32) {
        self.eventfds[worker as usize].store(eventfd + 1, Ordering::Relaxed);
    }

    /// Nobody waits for the threads of this run: the next start joins them.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
    }

    /// Whether a run has ended that nobody has joined, nor will: but for the caller, who alone is told
    /// so and has to.
    pub(crate) fn take_abandoned(&self) -> bool {
        let mut locked = self.lock();
        let ended = locked.ended >= self.workers.load(Ordering::SeqCst);
        ended && core::mem::replace(&mut locked.abandoned, false)
    }

    /// Waits until the pool is at rest, or retired, or abandoned.
    pub(crate) fn wait_rest(&self) {
        let mut locked = self.lock();
        let abandoned = |locked: &Locked| {
            locked.abandoned && locked.ended >= self.workers.load(Ordering::SeqCst)
        };
        while !matches!(self.phase(), Phase::Idle | Phase::Retired) && !abandoned(&locked) {
            locked = self.changed.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Keeps a worker's thread, to be joined.
    pub(crate) fn keep(&self, thread: JoinHandle<()>) {
        // There is room: the declaration bounds the workers.
        let _ = self.lock().threads.push(thread);
    }

    /// The next thread to join.
    pub(crate) fn next_thread(&self) -> Option<JoinHandle<()>> {
        self.lock().threads.pop()
    }

    pub(crate) fn held(&self) -> Held {
        self.lock().held
    }

    /// Keeps the first error of the run, and stops it.
    pub(crate) fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(error);
        // For who waits to be ready, where it stops already.
        self.changed.notify_all();
        self.stop();
    }

    pub(crate) fn error(&self) -> Option<Error> {
        self.lock().error
    }

    /// A worker is set up. Waits until all are, or the start has failed; true is go.
    pub(crate) fn ready(&self) -> bool {
        let mut locked = self.lock();
        locked.ready += 1;
        self.changed.notify_all();
        let all = self.workers.load(Ordering::SeqCst);
        while locked.ready < all && locked.error.is_none() && locked.ended == 0 {
            locked = self.changed.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
        // One that has ended by now, after a stop, ran: so does this one, for its own backlog.
        let go = locked.error.is_none() && locked.ready >= all;
        drop(locked);
        if go {
            // Where a stop came first the worker runs all the same: clients may be waiting already.
            self.change(Phase::Starting, Phase::Running);
        }
        go
    }

    /// A worker has ended, holding this.
    pub(crate) fn ended(&self, held: Held) {
        let mut locked = self.lock();
        locked.ended += 1;
        let sum = &mut locked.held;
        sum.ops += held.ops;
        sum.tasks += held.tasks;
        sum.buffers += held.buffers;
        sum.sockets += held.sockets;
        sum.files += held.files;
        sum.guards += held.guards;
        self.changed.notify_all();
    }

    /// Waits until every worker is ready, or one has ended.
    pub(crate) fn wait_ready(&self) {
        let all = self.workers.load(Ordering::SeqCst);
        let mut locked = self.lock();
        while locked.ready < all && locked.ended == 0 && locked.error.is_none() {
            locked = self.changed.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether all workers have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended >= self.workers.load(Ordering::SeqCst)
    }

    // ---- ports ----

    /// Looks the address up among those the pool listens on and, under the same lock, lets `make`
    /// bind it (for the first time where `None`).
    pub(crate) fn with_port<T>(
        &self,
        asked: SocketAddr,
        make: impl FnOnce(Option<&mut Port>) -> crate::Result<(Port, T)>,
    ) -> crate::Result<T> {
        let mut locked = self.lock();
        let known = locked.ports.iter().position(|port| port.asked == asked && port.users > 0);
        let (port, made) = make(known.map(|i| &mut locked.ports[i]))?;
        match known {
            Some(i) => locked.ports[i] = port,
            None => {
                let free = locked.ports.iter().position(|port| port.users == 0);
                match free {
                    Some(i) => locked.ports[i] = port,
                    None => {
                        locked.ports.push(port).map_err(|port| {
                            crate::ring::sys::close_fd(port.shared_fd);
                            Error::Other("a pool listens on 32 addresses at most")
                        })?;
                    }
                }
            }
        }
        self.changed.notify_all();
        Ok(made)
    }

    /// One listener less on the address. Returns the shared descriptor, if it was the last.
    pub(crate) fn leave_port(&self, asked: SocketAddr) -> Option<i32> {
        let mut locked = self.lock();
        let port = locked.ports.iter_mut().find(|port| port.asked == asked && port.users > 0)?;
        port.users -= 1;
        (port.users == 0 && port.shared_fd >= 0)
            .then(|| core::mem::replace(&mut port.shared_fd, -1))
    }

    /// The address of the `nth` port bound; waits until there is one, or the pool stops.
    pub(crate) fn wait_port(&self, nth: usize) -> Option<SocketAddr> {
        let mut locked = self.lock();
        loop {
            if let Some(port) = locked.ports.get(nth) {
                return Some(port.bound);
            }
            if self.is_stopping() || self.phase() == Phase::Idle {
                return None;
            }
            locked = self.changed.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
