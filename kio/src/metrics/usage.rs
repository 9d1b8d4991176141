//! How full a worker's bounded tables are, and were.

use super::Counter;

/// What is in use of something, and the most that ever was; written by one thread.
pub(crate) struct Gauge {
    now: Counter,
    peak: Counter,
    waits: Counter,
}

impl Gauge {
    pub(crate) const fn new() -> Self {
        Self { now: Counter::new(), peak: Counter::new(), waits: Counter::new() }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.now.get()
    }

    #[inline(always)]
    pub(crate) fn rise(&self) {
        let now = self.now.get() + 1;
        self.now.set(now);
        self.peak.peak(now);
    }

    #[inline(always)]
    pub(crate) fn fall(&self) {
        self.now.set(self.now.get() - 1);
    }

    /// Somebody began to wait for one, or was refused.
    #[inline]
    pub(crate) fn waited(&self) {
        self.waits.add(1);
    }

    /// A new run: what is in use stays.
    pub(crate) fn begin(&self) {
        self.peak.set(self.now.get());
        self.waits.set(0);
    }

    /// As it is told: of so many.
    pub(crate) fn usage(&self, name: &'static str, is_task: bool, size: u64) -> Usage {
        Usage {
            name,
            is_task,
            size,
            used: self.now.get(),
            peak: self.peak.get(),
            waits: self.waits.get(),
        }
    }
}

/// One of a worker's bounded tables: the slots of a task, buffers, sockets, files. See
/// [`Core::usage`](crate::Core::usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// A task's name as the declaration has it, `spawn` and `calls` among them; or `buffers`,
    /// `sockets`, `files`, `file_handles`, `file_ops`.
    pub name: &'static str,
    /// Whether these are the slots of a task.
    pub is_task: bool,
    /// How many there are.
    pub size: u64,
    /// How many are in use now.
    pub used: u64,
    /// The most that were in use at once since the start.
    pub peak: u64,
    /// How often somebody began to wait for one, or was refused one.
    pub waits: u64,
}
