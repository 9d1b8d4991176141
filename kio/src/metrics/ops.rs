//! Operations by kind.

use super::Counter;

macro_rules! ops {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:ident,)+) => {
        /// What an operation is.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub(crate) enum Op { $($variant,)+ }

        const KINDS: usize = [$(Op::$variant,)+].len();

        /// Operations that a worker handed to the kernel, by kind.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Ops { $($(#[doc = $doc])+ pub $name: u64,)+ }

        #[cfg(feature = "trace")]
        impl Op {
            /// The name of the kind with that number.
            pub(crate) fn name(number: u8) -> &'static str {
                const NAMES: [&str; KINDS] = [$(stringify!($name),)+];
                NAMES.get(usize::from(number)).copied().unwrap_or_default()
            }
        }

        impl Ops {
            /// Each kind's name and number.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }

        impl OpCounters {
            pub(crate) fn read(&self) -> Ops {
                Ops { $($name: self.0[Op::$variant as usize].get(),)+ }
            }
        }
    };
}

ops! {
    /// Nothing: placeholders.
    None nop,
    /// Receives armed; each may bring many times.
    Recv recv,
    /// Sends, gathered or not.
    Send send,
    /// Accepts.
    Accept accept,
    /// Connects.
    Connect connect,
    /// Descriptors put into the ring's table.
    Install install,
    /// Ends of a connection's write side.
    Shutdown shutdown,
    /// Closes, of sockets and files.
    Close close,
    /// Cancels of others.
    Cancel cancel,
    /// The standing wait for a wake-up from outside.
    Wake wake,
    /// Messages that wake another worker.
    Message message,
    /// Opens of files, each with the look at what was opened.
    Open open,
    /// Reads of files.
    Read read,
    /// Writes to files, appends included.
    Write write,
    /// Syncs of files.
    Sync sync,
    /// Looks at the metadata of files and paths.
    Stat stat,
    /// Changes of a file's length, allocations and advice.
    Length length,
    /// Changes of names and directories.
    Path path,
}

/// Their counters.
pub(crate) struct OpCounters([Counter; KINDS]);

impl OpCounters {
    pub(crate) const fn new() -> Self {
        Self([const { Counter::new() }; KINDS])
    }

    /// Counts one.
    #[inline(always)]
    pub(crate) fn add(&self, op: Op) {
        self.0[op as usize].add(1);
    }

    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|counter| counter.set(0));
    }
}
