//! The one error of kio: each variant names a cause, and its text the remedy.
//!
//! `Debug` prints the same text as `Display`, since `fn main() -> kio::Result<()>` shows `Debug`.

use core::fmt;
use core::net::SocketAddr;

/// The result of nearly everything in kio.
pub type Result<T> = core::result::Result<T, Error>;

/// What went wrong, and (in its text) what to do about it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The worker is stopping or has stopped. In an accept loop this is the normal end.
    Stopped,
    /// The time given was over first.
    TimedOut,
    /// The connection held buffers that others waited for, and was reset (see `stall`).
    Stalled,
    /// An earlier send was cut off by its timeout, so part of it may have gone out: nothing may
    /// follow it.
    WriteCut,
    /// The write half was shut down before.
    WriteClosed,
    /// The ring denied an operation that the declaration does not allow.
    NotAllowed(&'static str),
    /// A path that names no file, whatever there is; the text tells why.
    BadPath(&'static str),
    /// The file ended before as many bytes were read as were asked for.
    EndOfFile,
    /// A direct read or write was not aligned as the file system wants it.
    Misaligned {
        /// What the offset and the length must be a multiple of, in bytes.
        need: u32,
    },
    /// A system call or an operation failed.
    Os {
        /// What was tried.
        doing: &'static str,
        /// The kernel's error number.
        errno: i32,
    },
    /// A start-up failure.
    Start(StartError),
    /// A TLS handshake or connection failed.
    #[cfg(feature = "tls")]
    Tls(crate::tls::TlsError),
    /// An error of the user's own.
    Other(&'static str),
}

/// Why a pool did not start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel has no io_uring.
    NoIoUring,
    /// io_uring is there and forbidden.
    Forbidden {
        /// `kernel.io_uring_disabled`, or -1 where it could not be read.
        sysctl: i32,
        /// Whether the process runs under a seccomp filter.
        seccomp: bool,
    },
    /// More locked memory is needed than the limit allows.
    LockedMemory {
        /// Bytes that the whole pool needs.
        need: u64,
        /// The soft limit in bytes.
        allowed: u64,
    },
    /// More descriptors are needed than the limit allows.
    Descriptors {
        /// How many the pool needs.
        need: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// Something else listens on the address.
    AddressInUse(SocketAddr),
    /// The system does not let the process listen there.
    Listen {
        /// Where.
        addr: SocketAddr,
        /// The kernel's error number.
        errno: i32,
    },
    /// A CPU of the list is not among those the process may use.
    CpuNotAllowed(u32),
    /// More workers than CPUs that the process may use.
    TooFewCpus {
        /// Workers declared.
        workers: u32,
        /// CPUs allowed.
        cpus: u32,
    },
    /// The pool runs already, or its last run has not been joined.
    AlreadyRunning,
    /// The last run ended with something still held, so its memory is not used again.
    Retired(Held),
    /// Two tasks of the declaration have one future type.
    SameTask(&'static str, &'static str),
    /// The kernel is too old, or refuses what kio stands on.
    Unsupported(&'static str),
}

/// What was still held when a pool ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Operations in the kernel.
    pub ops: u32,
    /// Task slots, join handles and reservations among them.
    pub tasks: u32,
    /// Buffers.
    pub buffers: u32,
    /// Sockets.
    pub sockets: u32,
    /// Files: handles, requests under way, and what is open.
    pub files: u32,
    /// Guards of the workers' state.
    pub guards: u32,
}

impl Held {
    /// Whether nothing was held.
    pub const fn is_empty(&self) -> bool {
        self.ops == 0
            && self.tasks == 0
            && self.buffers == 0
            && self.sockets == 0
            && self.files == 0
            && self.guards == 0
    }
}

impl Error {
    pub(crate) const fn os(doing: &'static str, errno: i32) -> Self {
        match errno {
            13 => Self::NotAllowed(doing),
            _ => Self::Os { doing, errno },
        }
    }

    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Os { errno, .. } => Some(*errno),
            Self::NotAllowed(_) => Some(13),
            _ => None,
        }
    }

    /// Whether this is what a service meets every day and counts without a word: a peer that
    /// reset or vanished, a timeout, a stop; with TLS, whatever any client can cause.
    pub fn is_routine(&self) -> bool {
        match self {
            Self::Stopped | Self::TimedOut | Self::Stalled | Self::WriteCut => true,
            // EPIPE, ECONNABORTED, ECONNRESET, ENOTCONN, ETIMEDOUT
            Self::Os { errno, .. } => matches!(errno, 32 | 103 | 104 | 107 | 110),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.is_routine(),
            _ => false,
        }
    }
}

impl core::error::Error for Error {}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the worker has stopped"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Stalled => f.write_str(
                "the connection was reset: it held buffers that others waited for (raise \
                 `buffers` or `stall`)",
            ),
            Self::WriteCut => f.write_str(
                "an earlier send on this connection was cut off and may have sent a part: close \
                 the connection",
            ),
            Self::WriteClosed => f.write_str("the connection's write half is shut down"),
            Self::NotAllowed(doing) => write!(
                f,
                "{doing}: not permitted. Either the ring denies what the declaration does not \
                 name (add the key: `conns` for TCP, `files` for files, `allow = [paths]` for names and \
                 directories, or `harden = off`), or the process lacks the right (EACCES)"
            ),
            Self::BadPath(why) => write!(f, "not a path: {why}"),
            Self::EndOfFile => f.write_str("the file ended before as many bytes as were asked for"),
            Self::Misaligned { need } => write!(
                f,
                "direct I/O: offset, length and the place in the buffer must be multiples of {need} \
                 here (`Metadata::direct` tells; a buffer's begin is aligned): read or write whole \
                 blocks, or open without `direct`"
            ),
            Self::Os { doing, errno } => {
                write!(f, "{doing}: ")?;
                describe_errno(*errno, f)
            }
            Self::Start(start) => fmt::Display::fmt(start, f),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => fmt::Display::fmt(tls, f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(feature = "std")]
fn describe_errno(errno: i32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", std::io::Error::from_raw_os_error(errno))
}

#[cfg(not(feature = "std"))]
fn describe_errno(errno: i32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "os error {errno}")
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIoUring => f.write_str(
                "this kernel has no io_uring (ENOSYS): kio needs Linux 6.0 or later with \
                 CONFIG_IO_URING",
            ),
            Self::Forbidden { sysctl, seccomp } => {
                f.write_str("io_uring is forbidden to this process (EPERM). ")?;
                match sysctl {
                    1 => f.write_str(
                        "kernel.io_uring_disabled is 1: join the group kernel.io_uring_group \
                         names, or `sysctl kernel.io_uring_disabled=0`",
                    ),
                    2 => f.write_str(
                        "kernel.io_uring_disabled is 2: `sysctl kernel.io_uring_disabled=0`",
                    ),
                    _ if *seccomp => f.write_str(
                        "A seccomp filter is active: let the container profile allow \
                         io_uring_setup, io_uring_enter and io_uring_register",
                    ),
                    _ => f.write_str("A security module (SELinux, AppArmor) denies it"),
                }
            }
            Self::LockedMemory { need, allowed } => write!(
                f,
                "locked memory: the rings need {} KiB and RLIMIT_MEMLOCK allows {} KiB. Raise it \
                 (`ulimit -l`, LimitMEMLOCK= in a systemd unit, CAP_IPC_LOCK), or declare fewer \
                 conns or buffers",
                need.div_ceil(1024),
                allowed / 1024
            ),
            Self::Descriptors { need, allowed } => write!(
                f,
                "descriptors: the pool needs {need} and RLIMIT_NOFILE's hard limit is {allowed}. \
                 Raise it (`ulimit -Hn`, LimitNOFILE= in a systemd unit), or declare fewer conns"
            ),
            Self::AddressInUse(addr) => write!(
                f,
                "{addr} is in use: another process, or another pool of this one, listens there"
            ),
            Self::Listen { addr, errno } => {
                write!(f, "cannot listen on {addr}: ")?;
                describe_errno(*errno, f)?;
                match *errno {
                    libc::EACCES => f.write_str(
                        ". Ports below `sysctl net.ipv4.ip_unprivileged_port_start` (1024) want \
                         CAP_NET_BIND_SERVICE: take a higher one, or set \
                         AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit",
                    ),
                    libc::EADDRNOTAVAIL => f.write_str(
                        ". No interface of this machine has that address: `ip addr` shows which \
                         there are; 0.0.0.0 and [::] are all of them",
                    ),
                    libc::EAFNOSUPPORT => f.write_str(". The system has no IPv6"),
                    _ => Ok(()),
                }
            }
            Self::CpuNotAllowed(cpu) => write!(
                f,
                "CPU {cpu} of `pin` is not among those this process may use (taskset, cpuset)"
            ),
            Self::TooFewCpus { workers, cpus } => write!(
                f,
                "{workers} workers and only {cpus} CPUs that this process may use: declare \
                 `workers = ..={workers}` to take what there is, or `pin = off` to share CPUs"
            ),
            Self::AlreadyRunning => f.write_str(
                "the pool runs already: one declaration is one running pool. Wait with \
                 `start_when_free`, or declare another",
            ),
            Self::Retired(held) => write!(
                f,
                "the pool's last run ended while {} operations, {} task slots, {} buffers, {} \
                 sockets, {} files and {} state guards were still held, so its memory is never \
                 used again: drop what was kept (in thread-locals, forgotten futures) before the \
                 stop",
                held.ops, held.tasks, held.buffers, held.sockets, held.files, held.guards
            ),
            Self::SameTask(a, b) => write!(
                f,
                "tasks `{a}` and `{b}` have the same future type: name it once with the sum of \
                 both counts"
            ),
            Self::Unsupported(what) => {
                write!(f, "this kernel lacks {what}: use Linux 6.1 or later")
            }
        }
    }
}

impl From<StartError> for Error {
    fn from(start: StartError) -> Self {
        Self::Start(start)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::os("system call", errno.raw_os_error())
    }
}

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Self {
        Self::Other("the text does not fit the buffer")
    }
}

#[cfg(feature = "std")]
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::os("input/output", errno),
            None if error.kind() == std::io::ErrorKind::TimedOut => Self::TimedOut,
            None => Self::Other("an input/output error without a number"),
        }
    }
}

#[cfg(feature = "std")]
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::TimedOut => std::io::ErrorKind::TimedOut.into(),
            Error::EndOfFile => std::io::ErrorKind::UnexpectedEof.into(),
            #[cfg(feature = "tls")]
            Error::Tls(tls) => tls.kind().into(),
            Error::Misaligned { .. } => std::io::ErrorKind::InvalidInput.into(),
            Error::WriteClosed | Error::WriteCut => std::io::ErrorKind::BrokenPipe.into(),
            Error::Stalled => std::io::ErrorKind::ConnectionReset.into(),
            Error::NotAllowed(_) => std::io::ErrorKind::PermissionDenied.into(),
            Error::BadPath(_) => std::io::ErrorKind::InvalidInput.into(),
            Error::Os { errno, .. } => Self::from_raw_os_error(errno),
            _ => std::io::ErrorKind::Other.into(),
        }
    }
}
