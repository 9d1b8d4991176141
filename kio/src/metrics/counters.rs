//! The counters of a worker, and a copy of them.

use super::{OpCounters, Ops, TurnTimes, Turns};
use core::sync::atomic::{AtomicU64, Ordering};

/// A number that its worker raises and others read.
#[repr(transparent)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds; only the owning worker calls this, so no locked instruction is needed.
    #[inline(always)]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Keeps the larger of what is there and `n`.
    #[inline(always)]
    pub(crate) fn peak(&self, n: u64) {
        if n > self.0.load(Ordering::Relaxed) {
            self.0.store(n, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The counters of one worker, as it writes them.
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
            pub(crate) ops: OpCounters,
            pub(crate) turn_times: Turns,
        }

        impl Counters {
            pub(crate) const fn new() -> Self {
                Self { $($name: Counter::new(),)+ ops: OpCounters::new(), turn_times: Turns::new() }
            }

            /// A copy of all, each read on its own.
            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($name: self.$name.get(),)+
                    ops: self.ops.read(),
                    turn_times: self.turn_times.read(),
                }
            }

            /// Back to zero, for a pool that starts again.
            pub(crate) fn clear(&self) {
                $(self.$name.set(0);)+
                self.ops.clear();
                self.turn_times.clear();
            }
        }

        /// What one worker counted since its start. Each number is read on its own, without
        /// stopping the worker, so two of them may be a moment apart.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// Operations handed to the kernel, by what they are.
            pub ops: Ops,
            /// How long the turns of the loop took.
            pub turn_times: TurnTimes,
        }
    };
}

counters! {
    /// Turns of the loop.
    turns,
    /// CPU time of the worker's thread in nanoseconds, the kernel's work on its behalf included. Read
    /// from the system when the copy is made.
    cpu_ns,
    /// Calls of `io_uring_enter`.
    enters,
    /// Polls of tasks.
    polls,
    /// Operations handed to the kernel.
    submitted,
    /// Completions taken.
    completed,
    /// Completions of an operation that was over: their buffers and descriptors were taken back.
    stale,
    /// Times the completion queue overflowed. A bug of kio where it is not 0.
    overflows,
    /// Connections accepted.
    accepted,
    /// Connections made to others.
    connected,
    /// Transient accept errors, retried.
    accept_errors,
    /// Times an accept waited for a socket slot: clients wait in the backlog.
    accept_waits,
    /// Times an accept rested, since the system was short of descriptors or memory.
    accept_rests,
    /// Times a connect waited for a socket slot.
    connect_waits,
    /// Bytes received.
    received,
    /// Bytes sent.
    sent,
    /// Receives that found no buffer and waited.
    enobufs,
    /// Times a task waited for a buffer of its own.
    buffer_waits,
    /// Connections reset because they held buffers that others waited for.
    stalled,
    /// Times a task waited for a free file operation or file handle.
    file_waits,
    /// Bytes read from files that this worker owns.
    file_read,
    /// Bytes written to files that this worker owns.
    file_written,
    /// Syncs made, and those who were answered by them: group commit makes the second the larger.
    syncs,
    /// Callers of `sync_all` and `sync_data` that were answered.
    synced,
    /// Times a task waited for a free task slot.
    task_waits,
    /// Spawns refused because the arena was full.
    tasks_full,
    /// Tasks that panicked.
    panics,
    /// Tasks that ended with an error worth telling.
    failures,
    /// Tasks that ended with an everyday error: a reset, a timeout, a stop.
    routine_failures,
    /// Calls from other workers and threads taken.
    calls,
    /// Times a task waited for a slot of another worker's `calls`.
    call_waits,
    /// Calls refused because the other worker's `calls` were full and the caller part of a call.
    calls_full,
    /// Tasks woken from other threads.
    wakes,
    /// Times another thread, or another worker, ended a sleep of this one.
    wake_ups,
    /// Connections open now.
    open,
    /// Most connections open at once.
    open_peak,
    /// Tasks alive now.
    tasks,
    /// Most tasks alive at once.
    tasks_peak,
    /// Buffers in use now: held, queued or being sent.
    buffers,
    /// Most buffers in use at once.
    buffers_peak,
    /// Operations in the kernel now.
    in_flight,
    /// Most operations in the kernel at once.
    in_flight_peak,
}
