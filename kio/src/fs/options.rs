//! How a file is opened.

/// How to open a file. The default reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    create: bool,
    create_new: bool,
    truncate: bool,
    direct: bool,
    /// Does without `direct` where it is not to be had.
    or_cached: bool,
    directory: bool,
    follow: bool,
    /// With a descriptor of its own, which has a place of its own.
    alone: bool,
    mode: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Reads what is there.
    pub const fn new() -> Self {
        Self {
            read: true,
            write: false,
            create: false,
            create_new: false,
            truncate: false,
            direct: false,
            or_cached: false,
            directory: false,
            follow: true,
            alone: false,
            mode: 0o666,
        }
    }

    /// Writes too.
    pub const fn write(mut self) -> Self {
        self.write = true;
        self
    }

    /// Writes and does not read.
    pub const fn write_only(mut self) -> Self {
        (self.read, self.write) = (false, true);
        self
    }

    /// Makes the file if it is not there. Writes too.
    pub const fn create(mut self) -> Self {
        (self.write, self.create) = (true, true);
        self
    }

    /// Makes the file; it is an error if it is there. Writes too.
    pub const fn create_new(mut self) -> Self {
        (self.write, self.create_new) = (true, true);
        self
    }

    /// Empties the file. Writes too.
    pub const fn truncate(mut self) -> Self {
        (self.write, self.truncate) = (true, true);
        self
    }

    /// The permissions of a file that is made, less the process's umask; 0o666 if it is not said.
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Reads and writes past the page cache (O_DIRECT). Offsets and lengths must be multiples of
    /// [`super::File::block`]; a buffer's begin is aligned. A file system that has no way past the
    /// cache answers `EINVAL`.
    pub const fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// As [`OpenOptions::direct`], or through the page cache where the file system has no way past it:
    /// then [`super::File::block`] is 1. A file that is made there is opened a second time, so its
    /// `mode` must let its owner write.
    pub const fn try_direct(mut self) -> Self {
        (self.direct, self.or_cached) = (true, true);
        self
    }

    /// Opens a directory, to sync it; anything else is an error.
    pub const fn directory(mut self) -> Self {
        self.directory = true;
        self
    }

    /// Refuses a path whose last part is a symbolic link.
    pub const fn no_follow(mut self) -> Self {
        self.follow = false;
        self
    }

    /// What to try after `EINVAL`: through the page cache. Such an open has made the file already.
    pub(super) const fn cached(mut self) -> Option<Self> {
        if !self.or_cached {
            return None;
        }
        (self.direct, self.or_cached) = (false, false);
        if self.create_new {
            (self.create_new, self.create) = (false, true);
        }
        Some(self)
    }

    /// A directory that is read: where, its descriptor knows.
    pub(super) const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(super) const fn is_alone(self) -> bool {
        self.alone
    }

    /// The kernel's flags, and the mode.
    pub(super) const fn raw(self) -> [u32; 2] {
        let mut flags = match (self.read, self.write) {
            (true, true) => libc::O_RDWR,
            (false, _) => libc::O_WRONLY,
            (true, false) => libc::O_RDONLY,
        };
        let options = [
            (self.create || self.create_new, libc::O_CREAT),
            (self.create_new, libc::O_EXCL),
            (self.truncate, libc::O_TRUNC),
            (self.direct, libc::O_DIRECT),
            (self.directory, libc::O_DIRECTORY),
            (!self.follow, libc::O_NOFOLLOW),
        ];
        let mut i = 0;
        while i < options.len() {
            if options[i].0 {
                flags |= options[i].1;
            }
            i += 1;
        }
        [(flags | libc::O_CLOEXEC | libc::O_NOCTTY) as u32, self.mode]
    }
}
