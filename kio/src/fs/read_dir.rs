//! Reading a directory.

use super::path::AsPath;
use super::{File, Kind, OpenOptions};
use crate::Core;
use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::ring::sys;

/// The entries of a directory, as they come; see [`Core::read_dir`].
pub struct ReadDir {
    directory: File,
    /// Entries that were read, and not given yet: `struct linux_dirent64` each.
    entries: BufMut,
    /// Bytes of the entry that was given last.
    given: usize,
}

/// One name in a directory.
#[derive(Clone, Copy)]
pub struct DirEntry<'a> {
    bytes: &'a [u8],
}

/// Where the fields of a `struct linux_dirent64` are: its length, its kind and its name, behind an
/// inode and an offset of 8 bytes each.
const LENGTH: usize = 16;
const KIND: usize = 18;
const NAME: usize = 19;

impl Core {
    /// Opens a directory to read its entries. It holds a handle and a buffer while it lives.
    ///
    /// Errors: the system's (`ENOTDIR`, ..), as of [`Core::open`].
    pub async fn read_dir(self, path: impl AsPath) -> Result<ReadDir> {
        let directory = self.open_local(path, OpenOptions::new().directory().alone()).await?;
        Ok(ReadDir { directory, entries: self.buf().await?, given: 0 })
    }
}

impl ReadDir {
    /// The next entry, in no order, without `.` and `..`; `None` at the end. What is made or removed
    /// meanwhile may be told or not.
    ///
    /// io_uring has no operation that reads directories: once for each buffer of entries the worker
    /// makes a system call, and is blocked while the device brings them.
    ///
    /// Errors: the system's.
    pub async fn next(&mut self) -> Result<Option<DirEntry<'_>>> {
        loop {
            self.entries.consume(self.given);
            self.given = 0;
            if self.entries.is_empty() && !self.fill()? {
                return Ok(None);
            }
            self.given = DirEntry { bytes: &self.entries }.len();
            let entry = DirEntry { bytes: &self.entries[..self.given] };
            if !matches!(entry.name(), b"." | b"..") {
                // Looked up again: the borrow checker keeps a returned borrow for the whole loop.
                return Ok(Some(DirEntry { bytes: &self.entries[..self.given] }));
            }
        }
    }

    /// Reads as many entries as fit the buffer; false at the end.
    fn fill(&mut self) -> Result<bool> {
        let fd = self.directory.descriptor().ok_or(Error::Stopped)?;
        self.entries.clear();
        while self.entries.spare() > 0 {
            self.entries.put_some(&[0; 512]);
        }
        match sys::read_dir(fd, &mut self.entries) {
            error @ ..0 => {
                self.entries.clear();
                Err(Error::Os { doing: "read_dir", errno: -error })
            }
            n => {
                self.entries.truncate(n as usize);
                Ok(n > 0)
            }
        }
    }
}

impl<'a> DirEntry<'a> {
    fn len(&self) -> usize {
        usize::from(u16::from_ne_bytes([self.bytes[LENGTH], self.bytes[LENGTH + 1]]))
    }

    /// Its name, without a NUL.
    pub fn name(&self) -> &'a [u8] {
        let name = &self.bytes[NAME..];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        &name[..end]
    }

    /// What it is; `None` where the file system does not tell here ([`Core::stat_link`] does).
    pub fn kind(&self) -> Option<Kind> {
        match self.bytes[KIND] {
            libc::DT_UNKNOWN => None,
            kind => Some(Kind::of_mode(u32::from(kind) << 12)),
        }
    }
}

impl core::fmt::Debug for DirEntry<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DirEntry(\"{}\", {:?})", self.name().escape_ascii(), self.kind())
    }
}
