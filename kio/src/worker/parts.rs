//! The parts of a worker, in one static.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use super::{Core, Shared};
use crate::buf::{self, StoreMemory};
use crate::error::Held;
use crate::metrics::{Stats, Usage};
use crate::op::file::FileMemory;
use crate::op::{Io, IoMemory};
use crate::pool::Config;
use crate::ring::{Features, sys};
use crate::task::{
    Arena, CallHeader, Failure, Header, Part, RoomQueue, Table, Tasks, Tell, WaitList,
};
use crate::time::Timers;

/// The declaration's `on_error`.
pub type OnError = fn(Core, &Failure<'_>);

/// One worker's parts; all zero while idle. Everything in it but the atomics is its thread's.
pub struct Parts {
    pub(crate) tasks: Tasks,
    pub(crate) io: Io,
    pub(crate) timers: Timers,
    #[cfg(feature = "std")]
    pub(crate) calls: crate::task::call::thread::CallQueue,
    pub(crate) index: Cell<u32>,
    pub(crate) shared: Cell<Option<&'static Shared>>,
    pub(crate) config: Cell<Option<&'static Config>>,
    /// This worker has seen the stop.
    pub(crate) stopping: Cell<bool>,
    /// The barriers of the stop that it has passed, a bit each.
    passed: Cell<u32>,
    pub(crate) stop_waiters: WaitList,
    pub(crate) signal_waiters: WaitList,
    pub(crate) on_error: Cell<Option<OnError>>,
    /// Temporary files made, for names of their own.
    pub(crate) temporaries: Cell<u32>,
    /// Where relative paths begin: its text and how long that is.
    base: Table<Cell<u8>>,
    base_len: Cell<usize>,
    /// Where TLS in user space puts a record together, while no connection has it. In a box, so that
    /// a worker at rest is all zero.
    #[cfg(feature = "tls")]
    #[allow(clippy::box_collection, reason = "an empty Vec is not all zero, and no Box is")]
    spare: Cell<Option<alloc::boxed::Box<alloc::vec::Vec<u8>>>>,
}

/// Most bytes that a worker keeps to put records together in.
#[cfg(feature = "tls")]
const SPARE_MAX: usize = 64 * 1024;

/// The memory a worker takes over at start.
pub(crate) struct CoreMemory {
    pub(crate) io: IoMemory,
    pub(crate) files: FileMemory,
    pub(crate) base: &'static [Cell<u8>],
    pub(crate) headers: &'static [Header],
    pub(crate) arenas: &'static [Arena],
    pub(crate) calls: &'static [CallHeader],
    pub(crate) queues: &'static [RoomQueue],
    pub(crate) buffer_headers: &'static [buf::Header],
    pub(crate) bodies: Part,
    pub(crate) buffers: Part,
    pub(crate) buffer_ring: Part,
}

impl Parts {
    /// A worker at rest.
    #[allow(clippy::new_without_default, reason = "only statics are made of it")]
    pub const fn new() -> Self {
        Self {
            tasks: Tasks::new(),
            io: Io::new(),
            timers: Timers::new(),
            #[cfg(feature = "std")]
            calls: crate::task::call::thread::CallQueue::new(),
            index: Cell::new(0),
            shared: Cell::new(None),
            config: Cell::new(None),
            stopping: Cell::new(false),
            passed: Cell::new(0),
            stop_waiters: WaitList::new(),
            signal_waiters: WaitList::new(),
            on_error: Cell::new(None),
            temporaries: Cell::new(0),
            base: Table::new(),
            base_len: Cell::new(0),
            #[cfg(feature = "tls")]
            spare: Cell::new(None),
        }
    }

    /// Takes the memory over, on the thread that will own it.
    pub(crate) fn set_up(
        &'static self,
        index: u32,
        shared: &'static Shared,
        config: &'static Config,
        memory: &CoreMemory,
        features: Features,
    ) {
        self.tasks.owner.claim();
        self.tasks.counters.clear();
        self.tasks.trace.clear();
        self.tasks.thread.store(sys::thread(), Ordering::Relaxed);
        self.index.set(index);
        self.shared.set(Some(shared));
        self.config.set(Some(config));
        self.stopping.set(false);
        self.tasks.set_up(
            memory.headers,
            memory.arenas,
            config.tasks.iter(),
            memory.bodies,
            memory.calls,
            memory.queues,
        );
        self.tasks.hook.set(Some(self));
        self.tasks.join(index, shared.peers());
        shared.keep_peer(index, self);
        let received = config.buffers - config.reserve();
        let store = StoreMemory {
            headers: memory.buffer_headers,
            buffers: memory.buffers,
            size: config.buffer_size,
            ring: memory.buffer_ring,
            ring_entries: config.ring_entries() as u16,
            depth: config.depth,
            // Without a cap one enter may give one socket all that the ring holds: then the ring
            // never holds more than half.
            deepest: if features.recv_cap { received } else { (received / 2).max(1) },
            reserve: config.reserve(),
        };
        self.io.bufs.set_up(&self.tasks, &store);
        self.io.set_up(&self.tasks, memory.io, features, config.window, config.outbox as u16);
        self.io.set_up_files(memory.files, config.conns);
        self.base.set(memory.base);
        self.base_len.set(0);
        let now = sys::monotonic();
        self.timers.set_up(&self.tasks, now);
        self.io.set_clock(now / 1_000_000);
    }

    /// The core that a call is given.
    pub(crate) fn core_of(context: &'static dyn core::any::Any) -> Core {
        context.downcast_ref::<Self>().expect("calls begin with their worker's parts").core()
    }

    pub(crate) fn core(&'static self) -> Core {
        Core::new(self)
    }

    pub(crate) fn shared(&self) -> &'static Shared {
        self.shared.get().expect("a worker's shared part is set up before it is used")
    }

    pub(crate) fn config(&self) -> &'static Config {
        self.config.get().expect("a worker's declaration is set up before it is used")
    }

    /// An error where the declaration has no files.
    pub(crate) fn files_declared(&self) -> crate::Result<()> {
        match self.config().files {
            0 => Err(crate::Error::Other(
                "files need memory that is declared: add `files = N`, as many as may be open",
            )),
            _ => Ok(()),
        }
    }

    /// How many workers run.
    pub(crate) fn workers(&self) -> u32 {
        self.shared().workers.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Says where relative paths begin; nothing where no files are declared.
    pub(crate) fn set_base(&self, base: &[u8]) {
        let places = self.base.get().iter().zip(base);
        self.base_len.set(places.map(|(place, byte)| place.set(*byte)).count());
    }

    /// Where relative paths begin, copied.
    pub(crate) fn base(&self) -> heapless::Vec<u8, 4096> {
        self.base.get()[..self.base_len.get()].iter().map(Cell::get).collect()
    }

    /// A new run: no barrier is passed.
    #[cfg(feature = "std")]
    pub(crate) fn begin(&self) {
        self.passed.set(0);
    }

    /// Passes a barrier of the stop, once.
    #[cfg(feature = "std")]
    pub(crate) fn pass(&self, shared: &Shared, barrier: super::Barrier) {
        let (passed, bit) = (self.passed.get(), 1 << barrier as u32);
        self.passed.set(passed | bit);
        if passed & bit == 0 {
            shared.pass(barrier, 1);
        }
    }

    /// Wakes whoever waits for anything, and empties the lists: nothing in them may outlive the
    /// worker.
    pub(crate) fn wake_waiters(&'static self) {
        self.timers.clear(&self.tasks);
        self.stop_waiters.wake_all(&self.tasks);
        self.signal_waiters.wake_all(&self.tasks);
        self.io.wake_waiters();
        self.tasks.wake_waiters();
    }

    /// What the worker has counted; from any thread.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.tasks.counters.read();
        let thread = self.tasks.thread.load(Ordering::Relaxed);
        if thread != 0
            && let Some(cpu) = sys::cpu_time(thread)
        {
            stats.cpu_ns = cpu;
        }
        stats
    }

    /// How full the worker's tables are; from any thread, once it is set up. All that is read was
    /// set before, or is atomic.
    pub(crate) fn usage(&self, config: &Config) -> impl Iterator<Item = Usage> + use<> {
        let counters = &self.tasks.counters;
        let buffers = Usage {
            name: "buffers",
            is_task: false,
            size: config.buffers.into(),
            used: counters.buffers.get(),
            peak: counters.buffers_peak.get(),
            waits: counters.enobufs.get() + counters.buffer_waits.get(),
        };
        let tasks = self.tasks.arenas().iter().map(Arena::usage);
        core::iter::once(buffers).chain(self.io.usage()).chain(tasks)
    }

    /// Room to put a record together: what the last connection left, or none.
    #[cfg(feature = "tls")]
    pub(crate) fn take_spare(&self) -> alloc::vec::Vec<u8> {
        let mut kept = self.spare.take();
        let spare = kept.as_deref_mut().map(core::mem::take).unwrap_or_default();
        self.spare.set(kept);
        spare
    }

    /// Keeps such room for the next connection, the largest there was up to [`SPARE_MAX`].
    #[cfg(feature = "tls")]
    pub(crate) fn keep_spare(&self, mut spare: alloc::vec::Vec<u8>) {
        spare.clear();
        let mut kept = self.spare.take().unwrap_or_default();
        if (kept.capacity()..=SPARE_MAX).contains(&spare.capacity()) {
            *kept = spare;
        }
        self.spare.set(Some(kept));
    }

    /// The thread is about to end: what can be asked of it only while it lives is kept.
    #[cfg(feature = "std")]
    pub(crate) fn leave_thread(&self) {
        let thread = self.tasks.thread.swap(0, Ordering::Relaxed);
        self.tasks.counters.cpu_ns.set(sys::cpu_time(thread).unwrap_or(0));
        #[cfg(feature = "tls")]
        drop(self.spare.take());
    }

    /// What is still held.
    pub(crate) fn held(&self) -> Held {
        let mut held = Held::default();
        self.io.held(&mut held);
        self.tasks.held(&mut held);
        held
    }
}

impl Tell for Parts {
    fn tell(&'static self, failure: &Failure<'_>) {
        match self.on_error.get() {
            Some(on_error) => on_error(self.core(), failure),
            None => log::warn!("{failure}"),
        }
    }
}
