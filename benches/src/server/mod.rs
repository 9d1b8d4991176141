//! The servers under test: one file each, all behind one command line.
//!
//! To add one: a file with `pub fn run(options: &Options) -> Result<()>`, a line in `Kind`, one in
//! `Kind::ALL`, one in `run`. The file listens (on `options.port`, or on the descriptor that
//! `sys::listen` makes), calls `ready` once clients can connect, adds to `served` as it answers, and
//! returns after SIGTERM.

mod epoll;
pub mod kio;
mod limit;
#[cfg(feature = "peers")]
mod peers;
#[cfg(feature = "tls")]
mod tls;
mod tokio;

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Result;
use crate::alloc::Count;
use crate::sys;
use crate::workload::Workload;

/// A server by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The hand-written io_uring loop: 1024 receive buffers, cycled first in, first out.
    Limit,
    /// The same loop with 64 receive buffers, which stay in cache.
    LimitHot,
    /// A hand-written epoll loop: read, answer, wait.
    Epoll,
    /// A declared kio pool of one worker.
    Kio,
    /// The idiomatic tokio server on a current-thread runtime.
    Tokio,
    /// Other runtimes on io_uring.
    #[cfg(feature = "peers")]
    Monoio,
    #[cfg(feature = "peers")]
    Compio,
    #[cfg(feature = "peers")]
    Glommio,
    #[cfg(feature = "peers")]
    TokioUring,
    /// kio and tokio with rustls in user space.
    #[cfg(feature = "tls")]
    KioTls,
    #[cfg(feature = "tls")]
    TokioRustls,
}

impl Kind {
    const ALL: &[(&str, Self)] = &[
        ("kio", Self::Kio),
        ("limit", Self::Limit),
        ("limit-hot", Self::LimitHot),
        ("epoll", Self::Epoll),
        ("tokio", Self::Tokio),
        #[cfg(feature = "peers")]
        ("monoio", Self::Monoio),
        #[cfg(feature = "peers")]
        ("compio", Self::Compio),
        #[cfg(feature = "peers")]
        ("glommio", Self::Glommio),
        #[cfg(feature = "peers")]
        ("tokio-uring", Self::TokioUring),
        #[cfg(feature = "tls")]
        ("kio-tls", Self::KioTls),
        #[cfg(feature = "tls")]
        ("tokio-rustls", Self::TokioRustls),
    ];

    /// Those that a comparison of all has: all but the yardstick's other form, and TLS.
    pub fn compared() -> impl Iterator<Item = Self> {
        let all = Self::ALL.iter().map(|(_, kind)| *kind);
        all.filter(|kind| *kind != Self::LimitHot && !kind.speaks_tls())
    }

    /// Whether its clients speak TLS.
    pub fn speaks_tls(self) -> bool {
        #[cfg(feature = "tls")]
        let tls = matches!(self, Self::KioTls | Self::TokioRustls);
        #[cfg(not(feature = "tls"))]
        let tls = false;
        tls
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("?", |(name, _)| name)
    }
}

/// A server as the command line names it: `limit`, or `limit@100` to spin 100 us before sleeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Which server.
    pub kind: Kind,
    /// How long it watches for work before it sleeps, in microseconds.
    pub spin: u64,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spin {
            0 => f.write_str(self.kind.name()),
            us => write!(f, "{}@{us}", self.kind.name()),
        }
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (name, spin) = s.split_once('@').unwrap_or((s, "0"));
        let spin = spin.parse().map_err(|_| format!("`{s}`: what follows @ is microseconds"))?;
        let kind = Kind::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let known: Vec<_> = Kind::ALL.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        let kind = kind.ok_or_else(|| {
            let hint = "the other runtimes need `--features peers`, TLS needs `--features tls`";
            format!("unknown server `{name}`: {known}; {hint}")
        })?;
        Ok(Self { kind, spin })
    }
}

/// What a server is told.
pub struct Options {
    /// What to do with a connection.
    pub workload: Workload,
    /// Where to listen on 127.0.0.1; 0 takes a free port.
    pub port: u16,
    /// How long to watch for work before sleeping.
    pub spin: Duration,
    /// The CPU to run on.
    pub cpu: usize,
    /// End after so many requests; 0 is without end.
    pub max_requests: u64,
}

/// Runs one server until SIGTERM and prints what it allocated.
pub fn run(kind: Kind, options: &Options) -> Result<()> {
    sys::pin(options.cpu)?;
    sys::raise_nofile()?;
    MAX.store(options.max_requests, Relaxed);
    match kind {
        Kind::Limit => limit::run(options, 1024)?,
        Kind::LimitHot => limit::run(options, 64)?,
        Kind::Kio => kio::run(options)?,
        Kind::Epoll => epoll::run(options)?,
        Kind::Tokio => tokio::run(options)?,
        #[cfg(feature = "peers")]
        Kind::Monoio => peers::monoio::run(options)?,
        #[cfg(feature = "peers")]
        Kind::Compio => peers::compio::run(options)?,
        #[cfg(feature = "peers")]
        Kind::Glommio => peers::glommio::run(options)?,
        #[cfg(feature = "peers")]
        Kind::TokioUring => peers::tokio_uring::run(options)?,
        #[cfg(feature = "tls")]
        Kind::KioTls => tls::kio::run(options)?,
        #[cfg(feature = "tls")]
        Kind::TokioRustls => tls::tokio::run(options)?,
    }
    report();
    Ok(())
}

/// Tells what was allocated since the server was ready, and what it answered.
pub fn report() {
    let made = Count::now().since(READY.get().copied().unwrap_or_default());
    let requests = SERVED.load(Relaxed);
    eprintln!("allocations={} bytes={} requests={requests}", made.calls, made.bytes);
}

static READY: OnceLock<Count> = OnceLock::new();
static SERVED: AtomicU64 = AtomicU64::new(0);
static MAX: AtomicU64 = AtomicU64::new(0);

/// Tells the parent that clients can connect, and starts the count of allocations.
pub fn ready(port: u16) -> Result<()> {
    sys::reno_on_listeners()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {port}")?;
    out.flush()?;
    drop(out);
    let _ = READY.set(Count::now());
    Ok(())
}

/// Counts `n` answered requests; at `--max-requests` it raises SIGTERM.
///
/// Called from the one serving thread, so a load and a store do without a locked instruction.
#[inline]
pub fn served(n: u32) {
    let before = SERVED.load(Relaxed);
    let after = before + u64::from(n);
    SERVED.store(after, Relaxed);
    let max = MAX.load(Relaxed);
    if max != 0 && before < max && after >= max {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    }
}
