//! Replacing a file's contents at once, also for who loses power in the middle.

use core::fmt::Write;

use super::path::AsPath;
use super::{File, OpenOptions};
use crate::Core;
use crate::error::{Error, Result};

/// Bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o7777;
/// Names that are tried for a temporary file.
const NAMES: u32 = 1000;

impl Core {
    /// Writes a file so that its path names all of the old contents or all of `bytes`, never a part,
    /// whatever fails and whenever: a temporary file beside it (`.kio-PID-..`) is written and synced,
    /// takes its place, and the directory is synced. The file keeps the permissions of the old one,
    /// less the process's umask; its owner and its other names it does not keep.
    ///
    /// Wants `allow = [paths]`. Cancel safety: given up or killed, the old contents or the new are
    /// there; the temporary file may be left. Errors: the system's, and the old contents are there,
    /// unless it was the last sync that failed. Costs about fifteen operations, a buffer at a time.
    pub async fn write_atomic(self, path: impl AsPath, bytes: &[u8]) -> Result<()> {
        self.may_change("write_atomic")?;
        let path = path.as_path();
        let (directory, _) = split(path)?;
        let mode = match self.stat(path).await {
            Ok(old) => old.mode() & PERMISSIONS,
            Err(error) if error.errno() == Some(libc::ENOENT) => 0o666,
            Err(error) => return Err(error),
        };
        let mut name = heapless::String::new();
        let file = self.open_temporary(directory, &mut name, mode).await?;
        let temporary = [directory, name.as_bytes()];
        let written = self.write_and_rename(file, temporary, path, bytes).await;
        if written.is_err() {
            // Best effort: the error that is told is the first.
            let _ = self.remove(temporary).await;
            return written;
        }
        let here: &[u8] = if directory.is_empty() { b"." } else { directory };
        let directory = self.open_local(here, OpenOptions::new().directory()).await?;
        directory.sync_all().await
    }

    /// Makes a file of a new name. A name that is there is another's: one that was killed and had this
    /// number, or one that runs in another container and has it too.
    async fn open_temporary(
        self,
        directory: &[u8],
        name: &mut heapless::String<64>,
        mode: u32,
    ) -> Result<File> {
        let pid = rustix::process::getpid().as_raw_nonzero();
        let options = OpenOptions::new().create_new().mode(mode);
        let mut left = NAMES;
        loop {
            let parts = self.parts()?;
            let nth = parts.temporaries.get();
            parts.temporaries.set(nth.wrapping_add(1));
            name.clear();
            write!(name, ".kio-{pid}-{}-{nth}", self.index())?;
            let opened = self.open_on([directory, name.as_bytes()], options, false).await;
            left -= 1;
            match opened {
                Err(error) if error.errno() == Some(libc::EEXIST) && left > 0 => {}
                opened => return opened,
            }
        }
    }

    async fn write_and_rename(
        self,
        file: File,
        temporary: [&[u8]; 2],
        path: &[u8],
        bytes: &[u8],
    ) -> Result<()> {
        file.write_copy_at(bytes, 0).await?;
        file.sync_all().await?;
        file.close().await?;
        self.rename_from(temporary, path).await
    }
}

/// A path's directory, with its slash, and the name in it.
fn split(path: &[u8]) -> Result<(&[u8], &[u8])> {
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    match path.split_at(at) {
        (_, b"" | b"." | b"..") => Err(Error::BadPath("it names a directory, and no file in it")),
        parts => Ok(parts),
    }
}
