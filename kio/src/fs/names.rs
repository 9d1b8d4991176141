//! Names: renaming, linking, removing, making directories, and asking of a path.

use core::ffi::CStr;

use super::metadata::Metadata;
use super::open::put_path;
use super::path::{AsPath, PATH_MAX};
use super::pending::Pending;
use crate::Core;
use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::op::file::{Answer, Ask, Asked, Data};

/// Operations on paths, which run on the worker that asks. All but `stat` change directories and want
/// `allow = [paths]`. Paths are taken as [`Core::open`] does. Each takes a buffer meanwhile, in which
/// its paths must fit together.
///
/// Cancel safety: given up, they go on. Errors: the system's; `NotAllowed`; `BadPath`; `Stopped`.
impl Core {
    /// What the system knows of a path, or of the file that it links to.
    pub async fn stat(self, path: impl AsPath) -> Result<Metadata> {
        self.stat_as(path.as_path(), true).await
    }

    /// The same of a symbolic link itself.
    pub async fn stat_link(self, path: impl AsPath) -> Result<Metadata> {
        self.stat_as(path.as_path(), false).await
    }

    async fn stat_as(self, path: &[u8], follow: bool) -> Result<Metadata> {
        let asked = Asked { option: follow, ..Asked::new(Ask::StatPath) };
        let (pending, _) = self.ask_path("stat", [path, b""], None, asked).await?;
        Ok(Metadata::new(self.parts()?.io.stat_of(pending.request)))
    }

    /// Renames `from` to `to`, in place of what `to` names, at once: others see one or the other.
    pub async fn rename(self, from: impl AsPath, to: impl AsPath) -> Result<()> {
        self.rename_from([from.as_path(), b""], to.as_path()).await
    }

    /// The same, from the path that is made of two texts.
    pub(super) async fn rename_from(self, from: [&[u8]; 2], to: &[u8]) -> Result<()> {
        let asked = Asked::new(Ask::Rename);
        self.ask_path("rename", from, Some(to), asked).await.map(drop)
    }

    /// The same, but it is an error (`EEXIST`) if `to` is there.
    pub async fn rename_new(self, from: impl AsPath, to: impl AsPath) -> Result<()> {
        let asked = Asked { args: [libc::RENAME_NOREPLACE, 0], ..Asked::new(Ask::Rename) };
        self.two("rename", from.as_path(), to.as_path(), asked).await
    }

    /// Makes `new` another name of the file `old`.
    pub async fn hard_link(self, old: impl AsPath, new: impl AsPath) -> Result<()> {
        self.two("hard_link", old.as_path(), new.as_path(), Asked::new(Ask::Link)).await
    }

    /// Makes `new` a symbolic link with the text `target`, which is taken as it is.
    pub async fn symlink(self, target: impl AsPath, new: impl AsPath) -> Result<()> {
        let text = target.as_path();
        if text.is_empty() || text.contains(&0) || text.len() > PATH_MAX {
            return Err(Error::BadPath(
                "a symbolic link's text is 1 to 4,095 bytes, and holds no NUL",
            ));
        }
        let mut paths = self.path_buffer().await?;
        put_path(self.parts()?, [new.as_path(), b""], &mut paths)?;
        let second = paths.len();
        paths.put(text).and_then(|()| paths.put(&[0])).map_err(|_| {
            Error::BadPath("the path and the link's text together are longer than a buffer")
        })?;
        self.ask_paths("symlink", Asked::new(Ask::Symlink), paths, second).await.map(drop)
    }

    /// The text of a symbolic link, as it is.
    ///
    /// io_uring has no operation that reads links: the worker makes a system call, and is blocked
    /// while the device brings what is not in memory.
    pub async fn read_link(self, path: impl AsPath) -> Result<BufMut> {
        let mut buf = self.path_buffer().await?;
        put_path(self.parts()?, [path.as_path(), b""], &mut buf)?;
        let mut text = [0; PATH_MAX];
        let path = CStr::from_bytes_until_nul(&buf).map_err(|_| Error::BadPath("it has no end"))?;
        let len = rustix::fs::readlinkat_raw(rustix::fs::CWD, path, &mut text)
            .map_err(|errno| Error::Os { doing: "read_link", errno: errno.raw_os_error() })?;
        buf.clear();
        buf.put(&text[..len])?;
        Ok(buf)
    }

    /// Takes a file's name away.
    pub async fn remove_file(self, path: impl AsPath) -> Result<()> {
        self.remove([path.as_path(), b""]).await
    }

    /// The same of the path that is made of two texts.
    pub(super) async fn remove(self, path: [&[u8]; 2]) -> Result<()> {
        self.ask_path("remove_file", path, None, Asked::new(Ask::Unlink)).await.map(drop)
    }

    /// Takes an empty directory away.
    pub async fn remove_dir(self, path: impl AsPath) -> Result<()> {
        let asked = Asked { option: true, ..Asked::new(Ask::Unlink) };
        self.one("remove_dir", path.as_path(), asked).await
    }

    /// Makes a directory, with the permissions 0o777 less the process's umask.
    pub async fn create_dir(self, path: impl AsPath) -> Result<()> {
        let asked = Asked { args: [0, 0o777], ..Asked::new(Ask::MakeDir) };
        self.one("create_dir", path.as_path(), asked).await
    }

    async fn one(self, doing: &'static str, path: &[u8], asked: Asked) -> Result<()> {
        self.ask_path(doing, [path, b""], None, asked).await.map(drop)
    }

    async fn two(self, doing: &'static str, a: &[u8], b: &[u8], asked: Asked) -> Result<()> {
        self.ask_path(doing, [a, b""], Some(b), asked).await.map(drop)
    }

    /// An error where the declaration does not allow names to be changed. The ring would deny it too;
    /// but what it answers (EACCES) is also what a file system says of permissions.
    pub(super) fn may_change(self, doing: &'static str) -> Result<()> {
        let config = self.parts()?.config();
        if config.harden && !config.paths { Err(Error::NotAllowed(doing)) } else { Ok(()) }
    }

    async fn path_buffer(self) -> Result<BufMut> {
        let buf = self.buf().await?;
        self.parts()?.files_declared()?;
        Ok(buf)
    }

    /// Asks something of one path, which is made of two texts, or of two.
    async fn ask_path(
        self,
        doing: &'static str,
        first: [&[u8]; 2],
        second: Option<&[u8]>,
        asked: Asked,
    ) -> Result<(Pending, Answer)> {
        let mut paths = self.path_buffer().await?;
        put_path(self.parts()?, first, &mut paths)?;
        let at = paths.len();
        if let Some(second) = second {
            put_path(self.parts()?, [second, b""], &mut paths)?;
        }
        self.ask_paths(doing, asked, paths, at).await
    }

    async fn ask_paths(
        self,
        doing: &'static str,
        asked: Asked,
        paths: BufMut,
        second: usize,
    ) -> Result<(Pending, Answer)> {
        if asked.ask != Ask::StatPath {
            self.may_change(doing)?;
        }
        let pending = Pending::claim(self).await?;
        let own = &self.parts()?.io;
        let answer = pending.ask(own, 0, asked, Data::Paths(paths, second)).await?.check(doing)?;
        Ok((pending, answer))
    }
}
