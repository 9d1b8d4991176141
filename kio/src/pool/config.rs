//! What a declaration says, as plain numbers, and the sums that follow from it.

use super::Footprint;
use crate::fs::route::Route;
use crate::op::{CANCELS_MAX, OPS_A_SOCKET};
use crate::task::{TaskDecl, place};

/// Listeners a worker may have open at once.
pub(crate) const LISTENERS: usize = 8;
/// Buffers a worker may have: the kernel's limit on the entries of a provided ring.
const BUFFERS_MAX: u32 = 32_768;
/// Completion entries a ring may have: the kernel's limit.
const CQ_MAX: u32 = 65_536;
/// Slots of a ring's file table: the kernel's limit (`IORING_MAX_FIXED_FILES`).
const TABLE_MAX: u64 = 1 << 20;
/// File operations in flight at most: each may occupy a tag of the block layer, and there an `enter`
/// that finds none waits.
const FILE_OPS_MAX: u32 = 4096;
/// Task slots a worker may have: the headers of more are beyond what static addresses reach.
const TASKS_MAX: u64 = 1 << 24;
/// Bytes that all task bodies of a pool may have, and all its buffers.
const BODIES_MAX: u64 = 1 << 30;
/// Bytes that all statics of a pool may have: code reaches 2 GiB, and the program has statics too.
const STATICS_MAX: u64 = (2 << 30) - (64 << 20);

/// How many threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workers {
    /// So many.
    Exactly(u32),
    /// Memory for so many, and as many as CPUs are allowed.
    UpTo(u32),
}

/// Which CPUs the workers are pinned to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pin {
    /// The CPUs the process may use, in order.
    On,
    /// None.
    Off,
    /// These.
    Cpus(&'static [u32]),
}

/// How a worker waits when nothing is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// It sleeps in the kernel.
    Park,
    /// It watches the ring for so many nanoseconds first, while that pays.
    Spin(u64),
}

/// Whether buffers are registered, so that files are read and written without mapping them each time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registered {
    /// Where files are declared and the limit of locked memory allows it.
    Auto,
    /// Where files are declared; a limit that is too low fails the start.
    Require,
    /// Never.
    Off,
}

/// A whole declaration. `pool!` writes it; each field is a key of the declaration.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The pool's name; its threads are `name-0` and on.
    pub name: &'static str,
    /// Threads.
    pub workers: Workers,
    /// The arenas, one after another: the declared tasks, the entry (or one accept loop a
    /// listener), the `spawn` arena, the `calls` arena.
    pub tasks: &'static [TaskDecl],
    /// Sockets a worker.
    pub conns: u32,
    /// Files a worker.
    pub files: u32,
    /// File operations in flight a worker.
    pub file_ops: u32,
    /// Buffers a worker.
    pub buffers: u32,
    /// Bytes of a buffer, a multiple of 4096.
    pub buffer_size: u32,
    /// Buffers in the provided ring at first.
    pub depth: u32,
    /// Buffers kept from the ring, for sends; `None` is an eighth.
    pub reserve: Option<u32>,
    /// Buffers a connection may have received and not taken.
    pub window: u32,
    /// Entries of a connection's outbox.
    pub outbox: u32,
    /// Nanoseconds that buffers may be missed before those who hold them are reset.
    pub stall: u64,
    /// Submission entries; `None` is derived.
    pub sq: Option<u32>,
    /// Bytes of a worker's stack.
    pub stack: u64,
    /// Which CPUs.
    pub pin: Pin,
    /// How a worker waits.
    pub idle: Idle,
    /// Threads for what can only block.
    pub blocking: u32,
    /// Whether buffers are registered for files.
    pub registered: Registered,
    /// Whether the rings are restricted to what kio uses.
    pub harden: bool,
    /// Whether directories and names may be changed.
    pub paths: bool,
    /// Signals that reach tasks, besides INT and TERM, which stop.
    pub signals: &'static [i32],
    /// Nanoseconds that connections may take to end after a stop.
    pub drain: u64,
    /// Which worker opens which path.
    pub routes: &'static [Route],
    /// Bytes that the footprint may take; `None` is any.
    pub budget: Option<u64>,
}

impl Config {
    /// The documented defaults, for everything but the name and the tasks.
    pub const DEFAULT: Self = Self {
        name: "kio",
        workers: Workers::Exactly(1),
        tasks: &[],
        conns: 256,
        files: 0,
        file_ops: 64,
        buffers: 256,
        buffer_size: 16 * 1024,
        depth: 64,
        reserve: None,
        window: 4,
        outbox: 16,
        stall: 10_000_000_000,
        sq: None,
        stack: 256 * 1024,
        pin: Pin::On,
        idle: Idle::Park,
        blocking: 0,
        registered: Registered::Auto,
        harden: true,
        paths: false,
        signals: &[],
        drain: 10_000_000_000,
        routes: &[],
        budget: None,
    };

    /// Stops the build where the numbers cannot be.
    pub const fn check(&self) {
        assert!(self.max_workers() >= 1, "kio: `workers` must be at least 1");
        assert!(self.max_workers() <= 256, "kio: `workers` must be at most 256");
        assert!(self.conns >= 1, "kio: `conns` must be at least 1");
        assert!(self.conns <= 1 << 20, "kio: `conns` must be at most 1,048,576");
        assert!(
            self.conns as u64 + self.files as u64 <= TABLE_MAX,
            "kio: `conns` and `files` together must be at most 1,048,576, the slots of a ring's table"
        );
        assert!(
            self.file_ops >= 1 && self.file_ops <= FILE_OPS_MAX,
            "kio: `file_ops` must be 1 to 4,096"
        );
        assert!(self.files >= 1 || !self.paths, "kio: `allow = [paths]` needs `files`, 1 or more");
        self.check_routes();
        assert!(self.buffers >= 1, "kio: `buffers` must be at least 1 x 4 KiB");
        assert!(self.buffers <= BUFFERS_MAX, "kio: `buffers` must be at most 32,768 a worker");
        assert!(
            self.buffer_size >= 4096 && self.buffer_size.is_multiple_of(4096),
            "kio: a buffer's size must be a multiple of 4 KiB, so that every buffer is page-aligned"
        );
        assert!(self.buffer_size <= 1 << 30, "kio: a buffer's size must be at most 1 GiB");
        assert!(
            self.buffers as u64 * self.buffer_size as u64 * self.max_workers() as u64 <= BODIES_MAX,
            "kio: all buffers of a pool must fit 1 GiB (the reach of static addresses)"
        );
        assert!(
            self.body_bytes() as u64 * self.max_workers() as u64 <= BODIES_MAX,
            "kio: all task bodies of a pool must fit 1 GiB (the reach of static addresses)"
        );
        assert!(self.depth >= 1, "kio: `depth` must be at least 1");
        assert!(self.window >= 1, "kio: `window` must be at least 1");
        assert!(self.outbox >= 1 && self.outbox <= 1024, "kio: `outbox` must be 1 to 1024");
        assert!(self.reserve() < self.buffers, "kio: `reserve` must be less than `buffers`");
        assert!(
            self.completions() <= CQ_MAX as u64,
            "kio: what can be outstanding exceeds 65,536 completions a worker: declare fewer \
             `conns` (3 completions each), `buffers` or `file_ops` (1 each), or more workers"
        );
        // What is asked for, since 0 is the next power of two of what is too large in a release build.
        assert!(matches!(self.sq, None | Some(..=32_768)), "kio: `sq` must be at most 32,768");
        assert!(self.cq() <= CQ_MAX, "kio: the completion queue exceeds 65,536 entries");
        assert!(self.stack >= 16 * 1024, "kio: `stack` must be at least 16 KiB");
        assert!(self.stack <= 1 << 30, "kio: `stack` must be at most 1 GiB");
        let mut i = 0;
        while i < self.tasks.len() {
            assert!(self.tasks[i].align <= 4096, "kio: a task's future is aligned to over 4 KiB");
            i += 1;
        }
        assert!(
            Footprint::of(self).statics() <= STATICS_MAX,
            "kio: the statics of a pool must fit 2 GiB less 64 MiB (the reach of static addresses)"
        );
    }

    const fn check_routes(&self) {
        assert!(
            self.files >= 1 || self.routes.is_empty(),
            "kio: `routes` are for files: declare `files`, 1 or more"
        );
        let (workers, exact) = match self.workers {
            Workers::Exactly(workers) => (workers, true),
            Workers::UpTo(workers) => (workers, false),
        };
        let mut i = 0;
        while i < self.routes.len() {
            assert!(
                self.routes[i].fits(workers, exact),
                "kio: a route names a worker that does not exist, or may not"
            );
            i += 1;
        }
    }

    /// How many workers there is memory for.
    pub const fn max_workers(&self) -> u32 {
        match self.workers {
            Workers::Exactly(n) | Workers::UpTo(n) => n,
        }
    }

    /// Op slots of a worker.
    pub const fn ops(&self) -> u32 {
        self.conns * OPS_A_SOCKET
    }

    /// Task slots of a worker.
    pub const fn task_slots(&self) -> u32 {
        let (mut i, mut sum) = (0, 0);
        while i < self.tasks.len() {
            // In 64 bits, and compared at each step: a release build would not notice a sum that wraps.
            sum += self.tasks[i].count as u64;
            assert!(sum <= TASKS_MAX, "kio: all tasks of a worker must be at most 16,777,216");
            i += 1;
        }
        sum as u32
    }

    /// Bytes of a worker's task bodies, a multiple of 4096.
    pub const fn body_bytes(&self) -> usize {
        let (mut i, mut end) = (0, 0);
        while i < self.tasks.len() {
            let decl = &self.tasks[i];
            // The first bound keeps the product, and the second the next sum, from wrapping.
            assert!(decl.size as u64 <= BODIES_MAX, "kio: a task's slot must be at most 1 GiB");
            let (at, stride) = place(end, decl);
            end = at + stride * decl.count as usize;
            assert!(end as u64 <= BODIES_MAX, "kio: all task bodies of a pool must fit 1 GiB");
            i += 1;
        }
        end.next_multiple_of(4096)
    }

    /// Bytes of a worker's buffers.
    pub const fn buffer_bytes(&self) -> usize {
        self.buffers as usize * self.buffer_size as usize
    }

    /// Buffers kept from the provided ring.
    pub const fn reserve(&self) -> u32 {
        match self.reserve {
            Some(n) => n,
            None if self.buffers == 1 => 0,
            None if self.buffers < 16 => 1,
            None => self.buffers / 8,
        }
    }

    /// Entries of the provided ring.
    pub const fn ring_entries(&self) -> u32 {
        self.buffers.next_power_of_two()
    }

    /// Bytes of the provided ring, a multiple of 4096.
    pub const fn ring_bytes(&self) -> usize {
        (self.ring_entries() as usize * crate::buf::ENTRY_SIZE).next_multiple_of(4096)
    }

    /// File operations that can be outstanding.
    pub const fn file_ops(&self) -> u32 {
        if self.files > 0 { self.file_ops } else { 0 }
    }

    /// Bytes that the root of relative paths may have.
    pub const fn base_bytes(&self) -> usize {
        if self.files > 0 { 4096 } else { 0 }
    }

    /// Slots for calls of a worker.
    pub const fn calls(&self) -> u32 {
        match self.tasks {
            [.., calls] => calls.count,
            [] => 0,
        }
    }

    /// What can be outstanding in the completion queue at once, line by line:
    pub const fn completions(&self) -> u64 {
        let peers = self.max_workers() as u64 - 1;
        self.buffers as u64                 // one completion with data each
            + self.ops() as u64             // one terminal completion an operation
            + self.file_ops() as u64        // and a file operation
            + CANCELS_MAX as u64            // one a cancel
            + 8                             // wake-ups: one a sleep, and room
            + 2 * peers // a message of each, and a failed one to each
    }

    /// Completion entries.
    pub const fn cq(&self) -> u32 {
        let sum = (self.completions() as u32).next_power_of_two();
        if sum < 2 * self.sq() { 2 * self.sq() } else { sum }
    }

    /// Submission entries: all that may be under way goes in with one enter, up to 256.
    pub const fn sq(&self) -> u32 {
        let all = self.ops() + self.file_ops();
        match self.sq {
            Some(n) => n.next_power_of_two(),
            None if all >= 256 => 256,
            None => (all + 1).next_power_of_two(),
        }
    }
}
