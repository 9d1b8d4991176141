//! What the system knows of a file.

use core::fmt;
use core::time::Duration;

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a FIFO, a socket.
    Other,
}

impl Kind {
    pub(super) const fn of_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            _ => Self::Other,
        }
    }
}

/// What the system knows of a file, at one moment.
#[derive(Clone, Copy)]
pub struct Metadata {
    stat: libc::statx,
}

impl Metadata {
    pub(super) fn new(stat: libc::statx) -> Self {
        Self { stat }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        Kind::of_mode(self.mode())
    }

    /// Its length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "it is no collection")]
    pub fn len(&self) -> u64 {
        self.stat.stx_size
    }

    /// Its kind and permissions, as `st_mode` has them.
    pub fn mode(&self) -> u32 {
        self.stat.stx_mode.into()
    }

    /// Who owns it: user and group.
    pub fn owner(&self) -> (u32, u32) {
        (self.stat.stx_uid, self.stat.stx_gid)
    }

    /// How many names it has.
    pub fn links(&self) -> u32 {
        self.stat.stx_nlink
    }

    /// Which file it is: its device (major, minor) and inode. Equal for two names of one file.
    pub fn identity(&self) -> ((u32, u32), u64) {
        ((self.stat.stx_dev_major, self.stat.stx_dev_minor), self.stat.stx_ino)
    }

    /// Bytes that it takes on the device.
    pub fn allocated(&self) -> u64 {
        self.stat.stx_blocks * 512
    }

    /// When its bytes changed last, since 1970; zero for a time before.
    pub fn modified(&self) -> Duration {
        since_1970(self.stat.stx_mtime)
    }

    /// When it was read last, as far as the system keeps that.
    pub fn accessed(&self) -> Duration {
        since_1970(self.stat.stx_atime)
    }

    /// When its metadata changed last.
    pub fn changed(&self) -> Duration {
        since_1970(self.stat.stx_ctime)
    }

    /// When it was made; None where the file system does not keep that.
    pub fn created(&self) -> Option<Duration> {
        (self.stat.stx_mask & libc::STATX_BTIME != 0).then(|| since_1970(self.stat.stx_btime))
    }

    /// What direct I/O on it must be aligned to, in bytes: memory, then offsets and lengths. None
    /// where the file system does not tell (Linux 6.1 is the first that asks), or takes none.
    pub fn direct(&self) -> Option<(u32, u32)> {
        let told = (self.stat.stx_dio_mem_align, self.stat.stx_dio_offset_align);
        (told.1 != 0).then_some(told)
    }
}

fn since_1970(time: libc::statx_timestamp) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, time.tv_nsec)
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("kind", &self.kind())
            .field("len", &self.len())
            .field("mode", &format_args!("{:o}", self.mode()))
            .finish_non_exhaustive()
    }
}
