//! The memory of a pool, as a number known when it is built.

use core::fmt;

use super::Config;
use super::config::{LISTENERS, Registered};
use crate::op::file;
use crate::text::Text;
use crate::{buf, op, task, worker};

/// What a pool's memory is, in bytes, all workers together. `const`: it can be compared with a bound
/// while compiling. Its `Display` is a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Footprint {
    /// Workers there is memory for.
    pub workers: u32,
    /// Statics: task bodies.
    pub tasks: u64,
    /// Statics: task headers.
    pub task_headers: u64,
    /// Statics: buffers.
    pub buffers: u64,
    /// Statics: buffer headers and the provided ring.
    pub buffer_tables: u64,
    /// Statics: sockets, outboxes, listeners.
    pub sockets: u64,
    /// Statics: op slots.
    pub ops: u64,
    /// Statics: files, and what is asked of them.
    pub files: u64,
    /// Statics: the workers themselves.
    pub core: u64,
    /// Mapped at start: submission and completion rings.
    pub rings: u64,
    /// Mapped at start: stacks with their guard pages.
    pub stacks: u64,
    /// The kernel's share, estimated: armed operations, the file table, io-wq.
    pub kernel: u64,
    /// Of the above, memory the kernel counts as locked; with files that is the buffers too, but for
    /// `registered = off`.
    pub locked: u64,
}

/// What the kernel keeps for an armed operation (`struct io_kiocb` and its poll entry) and for a
/// slot of the file table: sizes of Linux 6.18, rounded up.
const KERNEL_OP: u64 = 320;
const KERNEL_SOCKET: u64 = 5 * 1024;
const PAGE: u64 = 4096;

impl Footprint {
    /// The sum of a declaration.
    pub const fn of(config: &Config) -> Self {
        let workers = config.max_workers() as u64;
        let conns = config.conns as u64;
        let out = conns * config.outbox as u64;
        let sockets = conns * size_of::<op::Socket>() as u64
            + out * (size_of::<op::OutEntry>() + 4) as u64
            + (LISTENERS * size_of::<op::Listener>()) as u64;
        let tables =
            config.buffers as u64 * size_of::<buf::Header>() as u64 + config.ring_bytes() as u64;
        let (files, file_ops) = (config.files as u64, config.file_ops() as u64);
        let files = (file_ops + files) * size_of::<file::Request>() as u64
            + files * (size_of::<file::Handle>() + size_of::<file::Entry>()) as u64
            + file_ops * size_of::<file::Flight>() as u64
            + config.base_bytes() as u64;
        let registered = match config.registered {
            Registered::Off => 0,
            _ if config.files == 0 => 0,
            _ => config.buffer_bytes() as u64,
        };
        let rings = (config.sq() as u64 * (64 + 4)).next_multiple_of(PAGE)
            + (config.cq() as u64 * 16 + 512).next_multiple_of(PAGE);
        Self {
            workers: workers as u32,
            tasks: workers * config.body_bytes() as u64,
            task_headers: workers * config.task_slots() as u64 * size_of::<task::Header>() as u64,
            buffers: workers * config.buffer_bytes() as u64,
            buffer_tables: workers * tables,
            sockets: workers * sockets,
            ops: workers * config.ops() as u64 * size_of::<op::Slot>() as u64,
            files: workers * files,
            core: workers
                * (size_of::<worker::Parts>()
                    + config.tasks.len() * size_of::<task::Arena>()
                    + config.calls() as usize * size_of::<task::CallHeader>()
                    + workers as usize * size_of::<task::RoomQueue>()) as u64,
            rings: workers * rings,
            stacks: (workers + config.blocking as u64) * (config.stack + PAGE),
            kernel: workers * (conns * (2 * KERNEL_OP + KERNEL_SOCKET) + file_ops * KERNEL_OP),
            locked: workers * (rings + config.ring_bytes() as u64 + registered),
        }
    }

    /// Statics, in `.bss`.
    pub const fn statics(&self) -> u64 {
        self.tasks
            + self.task_headers
            + self.buffers
            + self.buffer_tables
            + self.sockets
            + self.ops
            + self.files
            + self.core
    }

    /// Mapped at start.
    pub const fn mapped(&self) -> u64 {
        self.rings + self.stacks
    }

    /// What `budget` bounds: statics and mapped.
    pub const fn total(&self) -> u64 {
        self.statics() + self.mapped()
    }

    /// The lines of the table: name and bytes.
    const fn lines(&self) -> [(&'static str, u64); 10] {
        [
            ("task bodies", self.tasks),
            ("task headers", self.task_headers),
            ("buffers", self.buffers),
            ("buffer tables", self.buffer_tables),
            ("sockets", self.sockets),
            ("op slots", self.ops),
            ("files", self.files),
            ("workers", self.core),
            ("rings", self.rings),
            ("stacks", self.stacks),
        ]
    }

    /// Stops the build where the budget is exceeded, with the breakdown in the message.
    pub const fn within(&self, budget: Option<u64>) {
        if let Some(budget) = budget
            && self.total() > budget
        {
            let mut text = Text::new();
            text.put("kio: the declaration needs ");
            text.kib(self.total());
            text.put(" and `budget` is ");
            text.kib(budget);
            text.put(" (");
            let lines = self.lines();
            let mut i = 0;
            while i < lines.len() {
                if i > 0 {
                    text.put(", ");
                }
                text.put(lines[i].0);
                text.put(" ");
                text.kib(lines[i].1);
                i += 1;
            }
            text.put(")");
            panic!("{}", text.as_str());
        }
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, bytes: u64| {
            writeln!(f, "{name:<24}{:>12}.{} KiB", bytes / 1024, bytes % 1024 * 10 / 1024)
        };
        for (i, (name, bytes)) in self.lines().into_iter().enumerate() {
            if i == 8 {
                line("statics (.bss)", self.statics())?;
            }
            line(name, bytes)?;
        }
        line("mapped at start", self.mapped())?;
        line("total", self.total())?;
        line("kernel (estimate)", self.kernel)?;
        line("locked memory", self.locked)
    }
}
