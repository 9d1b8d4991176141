//! Making a worker's ring: flags peeled where refused, everything registered, then restricted and
//! enabled. Each failure becomes a start-up error that tells the remedy.

use std::io;

use io_uring::{IoUring, Submitter, register::Restriction};
use rustix::process::{Resource, getrlimit};
use rustix::thread::CpuSet;

use super::{FLAGS_TO_PEERS, FLAGS_USED, Opcode, Ring};
use crate::error::{Error, Result, StartError};
use crate::task::Part;

/// What a ring is made with.
pub(crate) struct Setup {
    /// Submission entries, a power of two.
    pub(crate) sq: u32,
    /// Completion entries, a power of two.
    pub(crate) cq: u32,
    /// Slots of the fixed-file table.
    pub(crate) files: u32,
    /// The provided-buffer ring: its page-aligned memory and its entries.
    pub(crate) buffer_ring: Part,
    pub(crate) buffer_ring_entries: u16,
    /// CPUs for the kernel's own helper threads, where they should not share the worker's.
    pub(crate) helpers: Option<CpuSet>,
    /// Restrict the ring to the operations kio uses.
    pub(crate) harden: bool,
    pub(crate) rights: Rights,
    /// Buffers to register, so that files need not map them each time, and whether it must be done.
    pub(crate) registered: Option<(Part, bool)>,
    /// Locked memory the whole pool needs, for the error that tells it.
    pub(crate) locked: u64,
}

/// What the declaration allows besides sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    /// Files are opened, read and written.
    pub(crate) files: bool,
    /// Names and directories are changed.
    pub(crate) paths: bool,
    /// The kernel has an operation that sets a file's length (6.9); one that it does not know cannot
    /// be allowed either.
    pub(crate) set_len: bool,
    /// There are other workers, to whom this one sends messages.
    pub(crate) peers: bool,
}

/// The operations of sockets and of the worker itself. Whatever is not here, nor among those that
/// the rights add, answers EACCES once the ring is enabled.
const ALWAYS: &[Opcode] = &[
    Opcode::Nop,
    Opcode::PollAdd,
    Opcode::SendMsg,
    // Control records of TLS come with their type beside them.
    #[cfg(feature = "tls")]
    Opcode::RecvMsg,
    Opcode::Accept,
    Opcode::AsyncCancel,
    Opcode::Connect,
    Opcode::Close,
    Opcode::FilesUpdate,
    Opcode::Send,
    Opcode::Recv,
    Opcode::Shutdown,
];
/// Those of files.
const FILES: &[Opcode] = &[
    Opcode::ReadV,
    Opcode::WriteV,
    Opcode::Fsync,
    Opcode::ReadFixed,
    Opcode::WriteFixed,
    Opcode::Fallocate,
    Opcode::OpenAt,
    Opcode::Statx,
    Opcode::Read,
    Opcode::Write,
    Opcode::Fadvise,
];
/// Those of names and directories.
const PATHS: &[Opcode] =
    &[Opcode::RenameAt, Opcode::UnlinkAt, Opcode::MkdirAt, Opcode::SymlinkAt, Opcode::LinkAt];
const ALLOWED_MAX: usize = 3 + ALWAYS.len() + FILES.len() + PATHS.len();

/// Registers what the worker works on. Done on the thread that made the ring and alone may enter
/// it. The ring was created disabled; the worker calls [`Ring::enable`] once all have theirs.
pub(crate) fn set_up<'a>(uring: &'a mut IoUring, setup: &Setup) -> Result<Ring<'a>> {
    let mut ring = Ring::new(uring);
    let submitter = ring.submitter();
    let failed = |doing| move |error: io::Error| explain(doing, &error, setup);
    submitter.register_files_sparse(setup.files).map_err(failed("registering the file table"))?;
    let (memory, entries) = (setup.buffer_ring.start(), setup.buffer_ring_entries);
    // SAFETY: a part of the pool's bytes: valid for ever, and this worker's alone.
    patiently(|| unsafe { submitter.register_buf_ring_with_flags(memory as u64, entries, 0, 0) })
        .map_err(failed("registering the buffer ring"))?;
    if let Some((buffers, must)) = setup.registered {
        register_buffers(&mut ring, buffers, must).map_err(failed("registering the buffers"))?;
    }
    let submitter = ring.submitter();
    // What works on files and cannot be done at once, and what cannot be polled.
    submitter.register_iowq_max_workers(&mut [4, 2]).map_err(failed("bounding io-wq"))?;
    if let Some(cpus) = &setup.helpers {
        // Kept off the worker's CPU where there is another; no harm where it is refused.
        let _ = submitter.register_iowq_aff(&raw_cpus(cpus));
    }
    if setup.harden {
        restrict(submitter, setup.rights).map_err(failed("restricting the ring"))?;
    }
    // Saves a descriptor look-up an enter (5.18); older kernels go without.
    let _ = submitter.register_ring_fd();
    Ok(ring)
}

impl Ring<'_> {
    /// Lets the ring run. The calling thread becomes its only issuer.
    pub(crate) fn enable(&mut self) -> Result<()> {
        self.submitter()
            .register_enable_rings()
            .map_err(|error| Error::os("enabling the ring", error.raw_os_error().unwrap_or(0)))
    }
}

fn raw_cpus(cpus: &CpuSet) -> libc::cpu_set_t {
    // SAFETY: a set of bits; all zero is the empty one.
    let mut raw: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)) {
        // SAFETY: both sets hold as many CPUs.
        unsafe { libc::CPU_SET(cpu, &mut raw) };
    }
    raw
}

fn restrict(submitter: &Submitter<'_>, rights: Rights) -> io::Result<()> {
    let none: &[Opcode] = &[];
    let set_len = (rights.files && rights.set_len).then_some(&Opcode::Ftruncate);
    let ops = ALWAYS
        .iter()
        .chain(if rights.files { FILES } else { none })
        .chain(set_len)
        .chain(if rights.paths { PATHS } else { none })
        .chain(rights.peers.then_some(&Opcode::MsgRing));
    let flags = if rights.peers { FLAGS_USED | FLAGS_TO_PEERS } else { FLAGS_USED };
    let mut list = heapless::Vec::<Restriction, ALLOWED_MAX>::new();
    let all = core::iter::once(Restriction::sqe_flags_allowed(flags))
        .chain(ops.map(|op| Restriction::sqe_op(*op as u8)));
    list.extend(all);
    submitter.register_restrictions(&mut list)
}

/// Registers the store as one buffer, number 0. Where locked memory is short it is left, unless it
/// `must` be done.
fn register_buffers(ring: &mut Ring<'_>, buffers: Part, must: bool) -> io::Result<()> {
    let all = libc::iovec { iov_base: buffers.start().cast(), iov_len: buffers.size() };
    // SAFETY: a part of the pool's bytes: valid for ever, and this worker's alone.
    let mut register = || unsafe { ring.submitter().register_buffers(&[all]) };
    match if must { patiently(register) } else { register() } {
        Ok(()) => ring.set_registered(),
        Err(error) if !must && error.raw_os_error() == Some(libc::ENOMEM) => {
            log::warn!(
                "locked memory does not suffice to register {} KiB of buffers: files are read and \
                 written without (`ulimit -l`, LimitMEMLOCK=; `registered = off` says so)",
                buffers.size() / 1024
            );
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Tries again for half a second where locked memory is short: the kernel gives back what rings that
/// are gone had in its own time, so a pool that starts again may have to wait for its last run's.
pub(super) fn patiently<T>(mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..50 {
        match make() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                std::thread::sleep(core::time::Duration::from_millis(10));
            }
            made => return made,
        }
    }
    make()
}

/// Tries the flags from best to least: NO_SQARRAY came with 6.6, DEFER_TASKRUN with 6.1.
pub(crate) fn build(setup: &Setup) -> Result<IoUring> {
    let mut last = None;
    for (no_sqarray, defer) in [(true, true), (false, true), (false, false)] {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_submit_all()
            .setup_taskrun_flag()
            .setup_cqsize(setup.cq)
            .setup_r_disabled();
        if defer {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        match patiently(|| builder.build(setup.sq)) {
            Ok(ring) => return Ok(ring),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = Some(error),
            Err(error) => return Err(explain("setting the ring up", &error, setup)),
        }
    }
    Err(explain("setting the ring up", &last.expect("the list of flags is not empty"), setup))
}

/// Turns a set-up error into its cause and remedy.
fn explain(doing: &'static str, error: &io::Error, setup: &Setup) -> Error {
    let errno = error.raw_os_error().unwrap_or(0);
    match errno {
        libc::ENOSYS => StartError::NoIoUring.into(),
        libc::EPERM | libc::EACCES => forbidden().into(),
        libc::ENOMEM => StartError::LockedMemory {
            need: setup.locked,
            allowed: getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
        }
        .into(),
        libc::EMFILE => StartError::Descriptors {
            need: setup.files.into(),
            allowed: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
        .into(),
        libc::EINVAL => StartError::Unsupported(doing).into(),
        _ => Error::os(doing, errno),
    }
}

pub(super) fn forbidden() -> StartError {
    let mut text = [0; 4096];
    let sysctl = match read("/proc/sys/kernel/io_uring_disabled", &mut text) {
        Some(text) => text.trim().parse().unwrap_or(-1),
        None => -1,
    };
    let seccomp = read("/proc/self/status", &mut text)
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("Seccomp:")))
        .is_some_and(|mode| mode.trim() != "0");
    StartError::Forbidden { sysctl, seccomp }
}

fn read<'a>(path: &str, text: &'a mut [u8]) -> Option<&'a str> {
    use std::io::Read;
    let n = std::fs::File::open(path).ok()?.read(text).ok()?;
    core::str::from_utf8(&text[..n]).ok()
}
