//! The driver: one narrow face to the kernel's ring.
//!
//! Above this floor (and `op/`, which fills in [`Sqe`]s) nothing knows io_uring. [`Ring`] can
//! push, enter and pop; what it registers happens once, while it is set up. Everything the kernel
//! may or may not do is found out by [`features`] by trying it, never by a version number.

#[cfg(feature = "std")]
mod bundle;
#[cfg(feature = "std")]
mod features;
#[cfg(feature = "tls")]
#[cfg_attr(not(test), allow(dead_code, reason = "the TLS streams come"))]
pub(crate) mod ktls;
#[cfg(feature = "std")]
mod setup;
mod sqe;
pub(crate) mod sys;
#[cfg(feature = "std")]
mod uring;

#[cfg(any(feature = "std", test))]
pub(crate) use sqe::Opcode;
pub(crate) use sqe::{Bytes, Cqe, File, Sqe};
#[cfg(feature = "std")]
pub(crate) use sqe::{FLAGS_TO_PEERS, FLAGS_USED};

#[cfg(feature = "std")]
pub use features::{Probe, probe};
#[cfg(feature = "std")]
pub(crate) use setup::{Rights, Setup, build, set_up};
#[cfg(feature = "std")]
pub(crate) use uring::{Ring, Wait};

/// What this kernel's ring does, found by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// A multishot receive tells of a reset that came right behind bytes. Where the kernel forgets that
    /// (seen on 6.18.15), the receive would never complete: there each takes once.
    pub(crate) multishot: bool,
    /// A multishot receive stops after a number of bytes (6.18).
    pub(crate) recv_cap: bool,
    /// One completion may tell of several buffers, within the cap, and tells it right (6.18).
    pub(crate) bundle: bool,
    /// A slot of the fixed-file table that is closed lets its file go at once (6.13). Before, the file
    /// stays until every older operation on the table has ended, which an idle receive never does:
    /// there kio keeps sockets as ordinary descriptors.
    pub(crate) direct: bool,
    /// There is an operation that sets a file's length (6.9).
    pub(crate) set_len: bool,
}

impl Features {
    pub(crate) const NONE: Self =
        Self { multishot: false, recv_cap: false, bundle: false, direct: false, set_len: false };
}
