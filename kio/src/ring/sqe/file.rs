//! Submissions on files and paths.

use super::{File, Opcode, Sqe};

const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: u32 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_REMOVEDIR: u32 = 0x200;
const FSYNC_DATASYNC: u32 = 1;
/// What `statx` is asked for: all of the basic fields, and the alignment of direct I/O (6.1).
const STATX_MASK: u32 = 0x7ff | 0x2000;

/// The path of what a descriptor names itself.
static EMPTY: &core::ffi::CStr = c"";

/// A stretch of memory that bytes are read into or written from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bytes {
    /// So many bytes from here.
    Plain { addr: u64, len: u32 },
    /// The same, inside the worker's registered buffers.
    Fixed { addr: u64, len: u32 },
    /// So many `iovec`s from here.
    Vectored { addr: u64, count: u32 },
}

impl Sqe {
    /// Opens the path at `path` as a descriptor.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn open(path: u64, flags: u32, mode: u32) -> Self {
        let mut sqe = Self::new(Opcode::OpenAt, AT_FDCWD);
        sqe.addr = path;
        sqe.len = mode;
        sqe.op_flags = flags;
        sqe
    }

    /// Reads at an offset.
    ///
    /// # Safety
    /// What it points to stays valid, unmoved and unread until the operation's terminal completion.
    pub(crate) const unsafe fn read(file: File, into: Bytes, offset: u64) -> Self {
        Self::transfer(file, into, offset, [Opcode::Read, Opcode::ReadFixed, Opcode::ReadV])
    }

    /// Writes at an offset.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn write(file: File, from: Bytes, offset: u64) -> Self {
        Self::transfer(file, from, offset, [Opcode::Write, Opcode::WriteFixed, Opcode::WriteV])
    }

    #[inline]
    const fn transfer(file: File, bytes: Bytes, offset: u64, ops: [Opcode; 3]) -> Self {
        let [plain, fixed, vectored] = ops;
        let (opcode, addr, len) = match bytes {
            Bytes::Plain { addr, len } => (plain, addr, len),
            // The one registered buffer is number 0: all of the worker's.
            Bytes::Fixed { addr, len } => (fixed, addr, len),
            Bytes::Vectored { addr, count } => (vectored, addr, count),
        };
        let mut sqe = Self::on(opcode, file);
        sqe.addr = addr;
        sqe.len = len;
        sqe.off = offset;
        sqe
    }

    /// Waits until what was written is on the device, and its metadata unless `data_only`.
    pub(crate) const fn sync(file: File, data_only: bool) -> Self {
        let mut sqe = Self::on(Opcode::Fsync, file);
        sqe.op_flags = if data_only { FSYNC_DATASYNC } else { 0 };
        sqe
    }

    /// `fallocate` of `len` bytes from `offset`.
    pub(crate) const fn allocate(file: File, mode: u32, offset: u64, len: u64) -> Self {
        let mut sqe = Self::on(Opcode::Fallocate, file);
        sqe.off = offset;
        sqe.addr = len;
        sqe.len = mode;
        sqe
    }

    /// `posix_fadvise` for `len` bytes from `offset`; the kernel takes 32 bits of a length, 0 is to
    /// the end.
    pub(crate) const fn advise(file: File, offset: u64, len: u32, advice: u32) -> Self {
        let mut sqe = Self::on(Opcode::Fadvise, file);
        sqe.off = offset;
        sqe.len = len;
        sqe.op_flags = advice;
        sqe
    }

    /// Sets a file's length (6.9).
    pub(crate) const fn set_len(file: File, len: u64) -> Self {
        let mut sqe = Self::on(Opcode::Ftruncate, file);
        sqe.off = len;
        sqe
    }

    /// `statx` of a descriptor into `into`.
    ///
    /// # Safety
    /// What it points to stays valid, unmoved and unread until the operation's terminal completion.
    pub(crate) unsafe fn stat(fd: i32, into: u64) -> Self {
        let mut sqe = Self::new(Opcode::Statx, fd);
        sqe.addr = EMPTY.as_ptr() as u64;
        sqe.off = into;
        sqe.len = STATX_MASK;
        sqe.op_flags = AT_EMPTY_PATH;
        sqe
    }

    /// `statx` of the path at `path` into `into`; of a symbolic link itself unless `follow`.
    ///
    /// # Safety
    /// What it points to stays valid, unmoved and unread until the operation's terminal completion.
    pub(crate) const unsafe fn stat_path(path: u64, into: u64, follow: bool) -> Self {
        let mut sqe = Self::new(Opcode::Statx, AT_FDCWD);
        sqe.addr = path;
        sqe.off = into;
        sqe.len = STATX_MASK;
        sqe.op_flags = if follow { 0 } else { AT_SYMLINK_NOFOLLOW };
        sqe
    }

    /// Renames the path at `from` to the one at `to`.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn rename(from: u64, to: u64, flags: u32) -> Self {
        let mut sqe = Self::two_paths(Opcode::RenameAt, from, to);
        sqe.op_flags = flags;
        sqe
    }

    /// Makes the path at `new` another name of the file at `old`.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn link(old: u64, new: u64) -> Self {
        Self::two_paths(Opcode::LinkAt, old, new)
    }

    /// Makes the path at `new` a symbolic link with the text at `target`.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn symlink(target: u64, new: u64) -> Self {
        let mut sqe = Self::new(Opcode::SymlinkAt, AT_FDCWD);
        sqe.addr = target;
        sqe.off = new;
        sqe
    }

    const fn two_paths(opcode: Opcode, first: u64, second: u64) -> Self {
        let mut sqe = Self::new(opcode, AT_FDCWD);
        sqe.addr = first;
        sqe.off = second;
        sqe.len = AT_FDCWD as u32;
        sqe
    }

    /// Takes the name at `path` away, of a directory or of anything else.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn unlink(path: u64, directory: bool) -> Self {
        let mut sqe = Self::new(Opcode::UnlinkAt, AT_FDCWD);
        sqe.addr = path;
        sqe.op_flags = if directory { AT_REMOVEDIR } else { 0 };
        sqe
    }

    /// Makes a directory at `path`.
    ///
    /// # Safety
    /// What it points to stays valid and unmoved until the operation's terminal completion.
    pub(crate) const unsafe fn make_dir(path: u64, mode: u32) -> Self {
        let mut sqe = Self::new(Opcode::MkdirAt, AT_FDCWD);
        sqe.addr = path;
        sqe.len = mode;
        sqe
    }

    /// Closes a descriptor.
    pub(crate) const fn close_fd(fd: i32) -> Self {
        Self::new(Opcode::Close, fd)
    }
}
