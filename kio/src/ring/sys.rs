//! The few system calls that more than one floor makes, on descriptors that kio keeps as numbers.

use core::net::SocketAddr;

use rustix::fd::{BorrowedFd, OwnedFd};

/// Nanoseconds of the monotonic clock.
#[inline]
pub(crate) fn monotonic() -> u64 {
    // The C library's: rustix looks the vDSO up itself, which faults under valgrind.
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Microseconds of the system's clock since 1970.
pub(crate) fn realtime_micros() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// The calling thread's number.
pub(crate) fn thread() -> i32 {
    rustix::thread::gettid().as_raw_pid()
}

/// CPU time of a thread of this process, in nanoseconds; `None` where it has ended.
pub(crate) fn cpu_time(thread: i32) -> Option<u64> {
    // As pthread_getcpuclockid makes it (clock_getres(2), `MAKE_THREAD_CPUCLOCK` of the kernel): the
    // number's complement, then "of a thread" and "what the scheduler counted".
    let clock = (!thread) << 3 | 4 | 2;
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spent` is valid for writing; a clock that does not exist is an error.
    let read = unsafe { libc::clock_gettime(clock, &mut spent) };
    (read == 0).then(|| spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64)
}

/// Lends a descriptor that its owner, an operation's slot or a static, keeps open meanwhile.
fn with_fd<R>(fd: i32, run: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
    // SAFETY: the callers own the descriptor and keep it open for the length of this call.
    run(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Adds one to an eventfd, which wakes who polls it; from any thread. A worker's eventfd is never
/// closed, so a late call hits nothing else.
pub(crate) fn ring_eventfd(fd: i32) {
    if fd >= 0 {
        // EAGAIN (the counter is full) means that it is readable: the worker wakes.
        let _ = with_fd(fd, |fd| rustix::io::write(fd, &1u64.to_ne_bytes()));
    }
}

/// Sets a file's length; a negative error number where it fails. It may block.
pub(crate) fn set_len(fd: i32, len: u64) -> i32 {
    with_fd(fd, |fd| match rustix::fs::ftruncate(fd, len) {
        Ok(()) => 0,
        Err(errno) => -errno.raw_os_error(),
    })
}

/// Reads entries of a directory, `struct linux_dirent64` each; how many bytes, or a negative error
/// number. It may block: io_uring has no operation for it.
pub(crate) fn read_dir(fd: i32, into: &mut [u8]) -> i32 {
    // SAFETY: the slice is valid for writing for the length of the call.
    let n = unsafe { libc::syscall(libc::SYS_getdents64, fd, into.as_mut_ptr(), into.len()) };
    if n < 0 { -last_errno() } else { n as i32 }
}

pub(super) fn last_errno() -> i32 {
    // SAFETY: the C library's error number of this thread.
    unsafe { *libc::__errno_location() }
}

/// Another descriptor of what `fd` names.
pub(crate) fn duplicate(fd: i32) -> rustix::io::Result<OwnedFd> {
    with_fd(fd, |fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))
}

/// Takes a socket's pending error off it.
#[cfg(feature = "tls")]
pub(crate) fn clear_error(fd: i32) {
    let _ = with_fd(fd, |fd| rustix::net::sockopt::socket_error(fd));
}

/// Ends the write side of a socket: 0, or a negative error number.
pub(crate) fn shutdown_write(fd: i32) -> i32 {
    match with_fd(fd, |fd| rustix::net::shutdown(fd, rustix::net::Shutdown::Write)) {
        Ok(()) => 0,
        Err(errno) => -errno.raw_os_error(),
    }
}

/// This side's address of a socket.
pub(crate) fn local_addr(fd: i32) -> Option<SocketAddr> {
    if fd < 0 {
        return None;
    }
    with_fd(fd, |fd| SocketAddr::try_from(rustix::net::getsockname(fd).ok()?).ok())
}

/// Closes a descriptor that the caller owns and forgets.
pub(crate) fn close_fd(fd: i32) {
    if fd >= 0 {
        // SAFETY: the caller owns it.
        unsafe { rustix::io::close(fd) };
    }
}

/// Sets a signal's handler and returns what was there. `handler` must be async-signal-safe.
#[cfg(feature = "std")]
pub(crate) fn set_handler(
    signal: i32,
    handler: extern "C" fn(i32),
) -> core::result::Result<libc::sigaction, i32> {
    // SAFETY: both are plain data, for which zero is a value; the handler keeps the promise above.
    unsafe {
        let mut new: libc::sigaction = core::mem::zeroed();
        let mut old: libc::sigaction = core::mem::zeroed();
        new.sa_sigaction = handler as usize;
        new.sa_flags = libc::SA_RESTART;
        match libc::sigaction(signal, &new, &mut old) {
            0 => Ok(old),
            _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        }
    }
}

/// Puts back what [`set_handler`] returned.
#[cfg(feature = "std")]
pub(crate) fn restore_handler(signal: i32, old: &libc::sigaction) {
    // SAFETY: `old` came from the system.
    unsafe { libc::sigaction(signal, old, core::ptr::null_mut()) };
}
