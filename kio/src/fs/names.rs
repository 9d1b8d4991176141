//! Names: renaming, linking, removing, making directories, and asking of a path.

use super::metadata::Metadata;
use super::open::put_path;
use super::path::AsPath;
use super::pending::Pending;
use crate::Core;
use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::op::file::{Answer, Ask, Asked, Data};

/// Operations on paths, which run on the worker that asks. All but `stat` change directories and want
/// `allow = [paths]`. Paths are taken as [`Core::open`] does. Each takes a buffer a path meanwhile.
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
        let path = self.path(path).await?;
        let asked = Asked { option: follow, ..Asked::new(Ask::StatPath) };
        let (pending, _) = self.ask_path("stat", asked, Data::Paths(path, None)).await?;
        Ok(Metadata::new(self.parts()?.io.stat_of(pending.index)))
    }

    /// Renames `from` to `to`, in place of what `to` names, at once: others see one or the other.
    pub async fn rename(self, from: impl AsPath, to: impl AsPath) -> Result<()> {
        self.two("rename", from.as_path(), to.as_path(), Asked::new(Ask::Rename)).await
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
        if text.is_empty() || text.contains(&0) || text.len() > super::path::PATH_MAX {
            return Err(Error::BadPath(
                "a symbolic link's text is 1 to 4,095 bytes, and holds no NUL",
            ));
        }
        let new = self.path(new.as_path()).await?;
        let mut target = self.buf().await?;
        target.put(text)?;
        target.put(&[0])?;
        self.ask_path("symlink", Asked::new(Ask::Symlink), Data::Paths(target, Some(new)))
            .await
            .map(drop)
    }

    /// Takes a file's name away.
    pub async fn remove_file(self, path: impl AsPath) -> Result<()> {
        self.one("remove_file", path.as_path(), Asked::new(Ask::Unlink)).await
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
        let path = self.path(path).await?;
        self.ask_path(doing, asked, Data::Paths(path, None)).await.map(drop)
    }

    async fn two(self, doing: &'static str, a: &[u8], b: &[u8], asked: Asked) -> Result<()> {
        let a = self.path(a).await?;
        let b = self.path(b).await?;
        self.ask_path(doing, asked, Data::Paths(a, Some(b))).await.map(drop)
    }

    /// A buffer with a path's normal form.
    async fn path(self, path: &[u8]) -> Result<BufMut> {
        let mut buf = self.buf().await?;
        let parts = self.parts()?;
        parts.files_declared()?;
        put_path(parts, path, &mut buf)?;
        Ok(buf)
    }

    async fn ask_path(
        self,
        doing: &'static str,
        asked: Asked,
        data: Data<'_>,
    ) -> Result<(Pending, Answer)> {
        let pending = Pending::claim(self).await?;
        let own = &self.parts()?.io;
        let answer = pending.ask(own, 0, asked, data).await?.check(doing)?;
        Ok((pending, answer))
    }
}
