//! What a process of the benchmark does to itself: its CPU, its limits, its signals, its sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Clients that may wait in a listener's backlog.
const BACKLOG: i32 = 4096;

/// Pins this thread, and the children it will have, to one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    pin_to(&[cpu])
}

/// The same, to some CPUs.
pub fn pin_to(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).map_err(|e| {
        io::Error::other(format!(
            "cannot run on CPU {cpus:?} ({e}): the benchmarks need CPUs 0 and 1"
        ))
    })
}

/// CPU time of this thread.
pub fn thread_cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// CPU time of all threads of this process, those that have ended and the kernel's helpers too.
pub fn cpu_time() -> Duration {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // By libc, since rustix's way to the vDSO ends in a fault under valgrind.
    // SAFETY: `spent` is a local, valid for writing; the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut spent) };
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// Raises the soft limit of descriptors to the hard one and returns it.
pub fn raise_nofile() -> io::Result<u64> {
    let max = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: max, maximum: max })?;
    Ok(max.unwrap_or(u64::MAX))
}

/// Turns SIGTERM and SIGINT into a descriptor that becomes readable.
///
/// The mask is the thread's; threads it starts later inherit it.
pub fn stop_fd() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero set is a valid value for `sigemptyset` to write to.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a local, valid for writing.
    unsafe { libc::sigemptyset(&mut set) };
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: `set` is initialised, the signal numbers exist.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    // SAFETY: `set` is initialised; the old mask is not asked for.
    let masked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    if masked != 0 {
        return Err(io::Error::from_raw_os_error(masked));
    }
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Listens on 127.0.0.1 with what accepted sockets inherit: TCP_NODELAY and, when `ready` adds it, reno.
pub fn listen(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    net::bind(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Connects to 127.0.0.1, from `source` when given.
pub fn connect(port: u16, source: Option<Ipv4Addr>) -> io::Result<OwnedFd> {
    let fd = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    reno(fd.as_fd());
    if let Some(ip) = source {
        net::bind(&fd, &SocketAddrV4::new(ip, 0))?;
    }
    net::connect(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(fd)
}

/// Asks for reno: bbr, the default of some hosts, paces loopback. A kernel that refuses keeps its own.
pub fn reno(fd: BorrowedFd<'_>) {
    let _ = sockopt::set_tcp_congestion(fd, "reno");
}

/// Sets reno on every listening socket of this process, so that a server which binds its own
/// listener is measured under the same congestion control.
pub fn reno_on_listeners() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(raw) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // SAFETY: the number was open when listed; this runs before the server serves, on its only
        // thread that closes descriptors. A wrong one would fail with EBADF or ENOTSOCK below.
        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
        if sockopt::socket_acceptconn(fd) == Ok(true) {
            reno(fd);
        }
    }
    Ok(())
}
