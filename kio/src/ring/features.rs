//! What this kernel gives, found by trying it on a small ring and a socket pair.

use core::fmt;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use super::{Features, File, Sqe};
use crate::error::{Error, Result, StartError};

impl Features {
    /// Tries what the pool's workers need to know. Costs a small ring, once a start.
    /// What forbids entering (some profiles allow set-up only) is found here, not by a worker.
    pub(crate) fn detect() -> Result<Self> {
        match super::setup::patiently(try_all) {
            Ok(found) => Ok(found),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
                Err(super::setup::forbidden().into())
            }
            // The worker's own ring fails for the same reason, and tells it.
            Err(_) => Ok(Self::NONE),
        }
    }
}

fn try_all() -> std::io::Result<Features> {
    let (multishot, recv_cap) = (multishot(), recv_cap()?);
    let bundle = multishot && bundle(recv_cap);
    Ok(Features { multishot, recv_cap, bundle, direct: direct()?, set_len: set_len()? })
}

/// Whether bundles can be trusted. They stand on the cap; where they cannot be tried (no loopback, or
/// a descriptor is short) they are not used.
fn bundle(recv_cap: bool) -> bool {
    recv_cap && super::bundle::bundle().unwrap_or(false)
}

/// Whether a multishot receive tells of a reset right behind bytes. Of two wake-ups that came before
/// its task work ran, `io_poll_check_events` looks at one (seen on 6.18.15), unless it has "io_uring/poll:
/// fix multishot recv missing EOF on wakeup race". Where that cannot be tried it is not trusted.
fn multishot() -> bool {
    tells_reset().unwrap_or(false)
}

fn tells_reset() -> std::io::Result<bool> {
    const PATIENCE_NS: u32 = 20_000_000;
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let peer = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (socket, _) = listener.accept()?;
    let bytes = [const { core::cell::Cell::new(0u8) }; 2];
    let mut builder = IoUring::<squeue::Entry>::builder();
    let mut ring = builder.setup_single_issuer().setup_defer_taskrun().build(4)?;
    let buffers = opcode::ProvideBuffers::new(bytes.as_ptr().cast_mut().cast(), 1, 2, 0, 0).build();
    let recv = Sqe::recv(File::Fd(socket.as_raw_fd()), true, 0).tagged(1);
    // SAFETY: the layouts agree (see `Ring::push`). The kernel writes `bytes`, one of which comes and is
    // waited for below; after the reset there is none.
    unsafe {
        let pushed = ring.submission().push(&buffers);
        debug_assert!(pushed.is_ok());
        let pushed = ring.submission().push(&*core::ptr::from_ref(&recv).cast::<squeue::Entry>());
        debug_assert!(pushed.is_ok());
    }
    ring.submit_and_wait(1)?;
    rustix::net::send(&peer, b"x", SendFlags::NOSIGNAL)?;
    rustix::net::sockopt::set_socket_linger(&peer, Some(core::time::Duration::ZERO))?;
    drop(peer);
    // Both are there before the ring looks.
    let mut came = [PollFd::new(&socket, PollFlags::RDHUP)];
    let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(25 * PATIENCE_NS) };
    rustix::event::poll(&mut came, Some(&patience))?;
    let patience = types::Timespec::new().nsec(PATIENCE_NS);
    let args = types::SubmitArgs::new().timespec(&patience);
    let mut byte = false;
    loop {
        while let Some(cqe) = ring.completion().next() {
            byte |= cqe.user_data() == 1 && cqe.result() == 1;
            if cqe.user_data() == 1 && !io_uring::cqueue::more(cqe.flags()) {
                return Ok(byte);
            }
        }
        match ring.submitter().submit_with_args(1, &args) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            entered => drop(entered?), // ETIME: it was forgotten
        }
    }
}

/// Whether a file that is closed in the table is let go while an older operation on the table waits.
fn direct() -> std::io::Result<bool> {
    let pair = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let ((idle, _peer), (closed, other)) = (pair()?, pair()?);
    let mut ring = IoUring::new(4)?;
    ring.submitter().register_files(&[idle.as_raw_fd(), closed.as_raw_fd()])?;
    drop(closed);
    let wait = opcode::PollAdd::new(types::Fixed(0), libc::POLLIN as u32).build();
    let close = opcode::Close::new(types::Fixed(1)).build();
    for sqe in [wait, close] {
        // SAFETY: neither points to anything.
        let pushed = unsafe { ring.submission().push(&sqe) };
        debug_assert!(pushed.is_ok());
        ring.submit()?;
    }
    let (n, _) = match rustix::net::recv(&other, &mut [0u8; 1][..], RecvFlags::DONTWAIT) {
        Err(rustix::io::Errno::AGAIN) => return Ok(false),
        read => read?,
    };
    Ok(n == 0)
}

/// Whether a capped multishot receive is taken (EINVAL before 6.18): armed on a quiet socket and a
/// ring of buffers that is not there, it completes at once either way, with ENOBUFS where the cap
/// is known.
fn recv_cap() -> std::io::Result<bool> {
    const EINVAL: i32 = -22;
    let (a, _b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut ring = IoUring::new(4)?;
    ring.submitter().register_files(&[a.as_raw_fd()])?;
    let sqe = Sqe::recv(File::Slot(0), true, 4096).tagged(1);
    // SAFETY: the layouts agree (see `Ring::push`), and a receive that selects its buffer points
    // to nothing.
    let pushed =
        unsafe { ring.submission().push(&*core::ptr::from_ref(&sqe).cast::<squeue::Entry>()) };
    debug_assert!(pushed.is_ok());
    ring.submit_and_wait(1)?;
    Ok(ring.completion().next().is_some_and(|cqe| cqe.result() != EINVAL))
}

/// Whether the operation that sets a file's length is there (6.9).
fn set_len() -> std::io::Result<bool> {
    let ring = IoUring::new(4)?;
    let mut ops = io_uring::Probe::new();
    ring.submitter().register_probe(&mut ops)?;
    Ok(ops.is_supported(super::Opcode::Ftruncate as u8))
}

/// What this kernel gives to kio. Its `Display` is a table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probe {
    /// The kernel's release, for the reader: kio decides by trying.
    pub release: heapless::String<64>,
    /// Deferred task work (6.1): completions are run by the worker when it asks for them.
    pub defer_taskrun: bool,
    /// No index array between the worker and its submissions (6.6).
    pub no_sqarray: bool,
    /// A registered ring descriptor (5.18).
    pub ring_fd: bool,
    /// A receive that goes on tells of a reset right behind bytes. Some kernels (6.18.15) forget it, and
    /// there kio arms each receive anew.
    pub multishot: bool,
    /// A receive window by a cap in bytes (6.18); without it kio cancels and re-arms.
    pub recv_cap: bool,
    /// A receive that fills several buffers at once and tells it right (6.18), for relays; without it
    /// they take one buffer a completion.
    pub bundle: bool,
    /// A closed slot of the file table lets its file go at once (6.13); without it kio keeps sockets as
    /// ordinary descriptors.
    pub direct: bool,
    /// An operation that sets a file's length (6.9); without it that call blocks the worker.
    pub set_len: bool,
    /// Operations of the kernel's list that kio uses and that are missing.
    pub missing: &'static [&'static str],
}

fn release() -> heapless::String<64> {
    let uname = rustix::system::uname();
    let mut release = heapless::String::new();
    for c in uname.release().to_str().unwrap_or("?").chars() {
        let _ = release.push(c);
    }
    release
}

/// Tries what this kernel gives. Errors are those of a pool's start.
pub fn probe() -> Result<Probe> {
    let plain = IoUring::new(4).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSYS) => Error::from(StartError::NoIoUring),
        Some(libc::EPERM | libc::EACCES) => super::setup::forbidden().into(),
        errno => Error::os("setting a ring up", errno.unwrap_or(0)),
    })?;
    // Some profiles allow set-up and deny entering.
    plain.submit().map_err(|_| Error::from(super::setup::forbidden()))?;
    let accepts = |flags: fn(&mut io_uring::Builder)| {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer();
        flags(&mut builder);
        builder.build(4).is_ok()
    };
    let mut ops = io_uring::Probe::new();
    let known = plain.submitter().register_probe(&mut ops).is_ok();
    let lacks_sockets = known && !ops.is_supported(super::Opcode::Shutdown as u8);
    let has_cap = recv_cap().unwrap_or(false);
    let multishot = multishot();
    Ok(Probe {
        release: release(),
        defer_taskrun: accepts(|b| {
            b.setup_defer_taskrun();
        }),
        no_sqarray: accepts(|b| {
            b.setup_no_sqarray();
        }),
        ring_fd: plain.submitter().register_ring_fd().is_ok(),
        multishot,
        recv_cap: has_cap,
        bundle: multishot && bundle(has_cap),
        direct: direct().unwrap_or(false),
        set_len: set_len().unwrap_or(false),
        missing: if lacks_sockets { &["shutdown"] } else { &[] },
    })
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |is| if is { "yes" } else { "no" };
        writeln!(f, "kernel                    {}", self.release)?;
        writeln!(f, "deferred task work  (6.1) {}", yes(self.defer_taskrun))?;
        writeln!(f, "no submission array (6.6) {}", yes(self.no_sqarray))?;
        writeln!(f, "registered ring    (5.18) {}", yes(self.ring_fd))?;
        writeln!(f, "direct descriptors (6.13) {}", yes(self.direct))?;
        writeln!(f, "receives that go on       {}", yes(self.multishot))?;
        writeln!(f, "receive cap        (6.18) {}", yes(self.recv_cap))?;
        writeln!(f, "bundles            (6.18) {}", yes(self.bundle))?;
        writeln!(f, "set a file's length (6.9) {}", yes(self.set_len))?;
        write!(f, "missing operations        ")?;
        if self.missing.is_empty() { f.write_str("none") } else { write!(f, "{:?}", self.missing) }
    }
}
