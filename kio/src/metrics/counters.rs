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
    ($($(#[doc = $doc:literal])+ $name:ident $metric:literal,)+) => {
        /// The counters of one worker, as it writes them.
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
            /// Of a thread that has ended; that of a living one is the system's to tell.
            pub(crate) cpu_ns: Counter,
            pub(crate) ops: OpCounters,
            pub(crate) turn_times: Turns,
        }

        impl Counters {
            pub(crate) const fn new() -> Self {
                Self { $($name: Counter::new(),)+ cpu_ns: Counter::new(), ops: OpCounters::new(), turn_times: Turns::new() }
            }

            /// A copy of all, each read on its own.
            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($name: self.$name.get(),)+
                    cpu_ns: self.cpu_ns.get(),
                    ops: self.ops.read(),
                    turn_times: self.turn_times.read(),
                }
            }

            /// Back to zero, for a pool that starts again.
            pub(crate) fn clear(&self) {
                $(self.$name.set(0);)+
                self.cpu_ns.set(0);
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
            /// CPU time of the worker's thread in nanoseconds, the kernel's work on its behalf included.
            /// Read from the system when the copy is made.
            pub cpu_ns: u64,
            /// Operations handed to the kernel, by what they are.
            pub ops: Ops,
            /// How long the turns of the loop took.
            pub turn_times: TurnTimes,
        }

        /// Each number as it is called where metrics are collected, what it is, and the number.
        pub(super) const TOLD: &[Told] = &[$(($metric, concat!($($doc),+), |counters| &counters.$name),)+];
    };
}

/// See [`TOLD`].
type Told = (&'static str, &'static str, fn(&Counters) -> &Counter);

counters! {
    /// Turns of the loop.
    turns "kio_turns_total",
    /// Calls of `io_uring_enter`.
    enters "kio_enters_total",
    /// Polls of tasks.
    polls "kio_polls_total",
    /// Operations handed to the kernel.
    submitted "kio_submitted_ops_total",
    /// Completions taken.
    completed "kio_completions_total",
    /// Completions of an operation that was over: their buffers and descriptors were taken back.
    stale "kio_stale_completions_total",
    /// Times the completion queue overflowed. A bug of kio where it is not 0.
    overflows "kio_overflows_total",
    /// Connections accepted.
    accepted "kio_accepted_total",
    /// Connections made to others.
    connected "kio_connected_total",
    /// Transient accept errors, retried.
    accept_errors "kio_accept_errors_total",
    /// Times an accept waited for a socket slot: clients wait in the backlog.
    accept_waits "kio_accept_waits_total",
    /// Times an accept rested, since the system was short of descriptors or memory.
    accept_rests "kio_accept_rests_total",
    /// Times a connect waited for a socket slot.
    connect_waits "kio_connect_waits_total",
    /// Bytes received.
    received "kio_received_bytes_total",
    /// Bytes sent.
    sent "kio_sent_bytes_total",
    /// Receives that found no buffer and waited.
    enobufs "kio_enobufs_total",
    /// Times a task waited for a buffer of its own.
    buffer_waits "kio_buffer_waits_total",
    /// Connections reset because they held buffers that others waited for.
    stalled "kio_stalled_total",
    /// Times a task waited for a free file operation or file handle.
    file_waits "kio_file_waits_total",
    /// Bytes read from files that this worker owns.
    file_read "kio_file_read_bytes_total",
    /// Bytes written to files that this worker owns.
    file_written "kio_file_written_bytes_total",
    /// Syncs made, and those who were answered by them: group commit makes the second the larger.
    syncs "kio_syncs_total",
    /// Callers of `sync_all` and `sync_data` that were answered.
    synced "kio_synced_total",
    /// Times a task waited for a free task slot.
    task_waits "kio_task_waits_total",
    /// Spawns refused because the arena was full.
    tasks_full "kio_tasks_full_total",
    /// Tasks that panicked.
    panics "kio_panics_total",
    /// Tasks that ended with an error worth telling.
    failures "kio_failures_total",
    /// Tasks that ended with an everyday error: a reset, a timeout, a stop.
    routine_failures "kio_routine_failures_total",
    /// Calls from other workers and threads taken.
    calls "kio_calls_total",
    /// Times a task waited for a slot of another worker's `calls`.
    call_waits "kio_call_waits_total",
    /// Calls refused because the other worker's `calls` were full and the caller part of a call.
    calls_full "kio_calls_full_total",
    /// Tasks woken from other threads.
    wakes "kio_wakes_total",
    /// Times another thread, or another worker, ended a sleep of this one.
    wake_ups "kio_wake_ups_total",
    /// Connections open now.
    open "kio_connections",
    /// Most connections open at once.
    open_peak "kio_connections_peak",
    /// Tasks alive now.
    tasks "kio_tasks",
    /// Most tasks alive at once.
    tasks_peak "kio_tasks_peak",
    /// Buffers in use now: held, queued or being sent.
    buffers "kio_buffers_in_use",
    /// Most buffers in use at once.
    buffers_peak "kio_buffers_in_use_peak",
    /// Operations in the kernel now.
    in_flight "kio_ops_in_flight",
    /// Most operations in the kernel at once.
    in_flight_peak "kio_ops_in_flight_peak",
}
