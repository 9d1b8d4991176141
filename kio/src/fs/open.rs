//! Opening: a path finds its owner, and a handle its file.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use super::path::{AsPath, PATH_MAX, normalise};
use super::pending::Pending;
use super::{File, OpenOptions, route};
use crate::Core;
use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::op::Io;
use crate::op::file::{Ask, Asked, Data};
use crate::task::WaitNode;
use crate::worker::Parts;

/// A handle that opens nothing yet. Dropped, it is free again.
struct Claimed {
    core: Core,
    handle: Option<u32>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let (Some(handle), Ok(parts)) = (self.handle, self.core.parts()) {
            parts.io.free_handle(handle);
        }
    }
}

impl Core {
    /// Opens a file to read, on the worker that `routes` names for its path; here, where none is.
    /// Waits while all handles (`files`) or all buffers are taken.
    ///
    /// A relative path is below the declaration's `root`, or below the working directory as it was at
    /// the start. `.`, `..` and `//` are taken away by text alone.
    ///
    /// Cancel safety: given up, what was opened is closed. Errors: the system's (`ENOENT`, `EACCES`,
    /// `EISDIR`, ..), `BadPath`, `Stopped`. Costs two or three operations, and a buffer meanwhile.
    pub async fn open(self, path: impl AsPath) -> Result<File> {
        self.open_with(path, OpenOptions::new()).await
    }

    /// Opens a file with options, on the worker that `routes` names for its path. See [`Core::open`].
    pub async fn open_with(self, path: impl AsPath, options: OpenOptions) -> Result<File> {
        self.open_on([path.as_path(), b""], options, true).await
    }

    /// Opens a file with options on this worker, whatever `routes` says. See [`Core::open`].
    ///
    /// A file that is opened here and by its route has two owners, who do not know of each other: then
    /// nobody may append to it.
    pub async fn open_local(self, path: impl AsPath, options: OpenOptions) -> Result<File> {
        self.open_on([path.as_path(), b""], options, false).await
    }

    /// Opens the path that is made of two texts.
    pub(super) async fn open_on(
        self,
        path: [&[u8]; 2],
        mut options: OpenOptions,
        routed: bool,
    ) -> Result<File> {
        loop {
            let opened = self.open_once(path, options, routed).await;
            match (&opened, options.cached()) {
                (Err(Error::Os { errno: libc::EINVAL, .. }), Some(cached)) => options = cached,
                _ => return opened,
            }
        }
    }

    async fn open_once(self, path: [&[u8]; 2], options: OpenOptions, routed: bool) -> Result<File> {
        let mut claimed = self.claim_handle().await?;
        let mut buf = self.buf().await?;
        let owner = put_path(self.parts()?, path, &mut buf)?.filter(|_| routed);
        let owner = match owner {
            Some(worker) => self.peer(worker).await?,
            None => &self.parts()?.io,
        };
        let pending = Pending::claim(self).await?;
        let Some(handle) = claimed.handle.take() else { return Err(Error::Stopped) };
        self.parts()?.io.open_into(pending.request, handle, owner);
        let (args, option) = (options.raw(), options.is_alone());
        let asked = Asked { args, option, ..Asked::new(Ask::Open) };
        let answer = pending.ask(owner, 0, asked, Data::Paths(buf, 0)).await?.check("open")?;
        self.parts()?.io.handle_opened(pending.request, handle, answer);
        Ok(File::new(self, handle, answer.aligns))
    }

    async fn claim_handle(self) -> Result<Claimed> {
        let mut node = pin!(WaitNode::new());
        poll_fn(|cx| {
            let parts = self.parts()?;
            if parts.tasks.closed.get() {
                return Poll::Ready(Err(Error::Stopped));
            }
            parts.files_declared()?;
            let polled = parts.io.poll_handle(node.as_mut().as_ref(), cx);
            polled.map(|handle| Ok(Claimed { core: self, handle: Some(handle) }))
        })
        .await
    }

    /// Another worker's files. In the first moments of a start it may not be set up yet.
    async fn peer(self, worker: u32) -> Result<&'static Io> {
        poll_fn(|cx| {
            let parts = self.parts()?;
            if worker == parts.index.get() {
                return Poll::Ready(Ok(&parts.io));
            }
            if let Some(peer) = parts.shared().peer(worker) {
                return Poll::Ready(Ok(&peer.io));
            }
            if parts.stopping.get() || parts.tasks.closed.get() {
                return Poll::Ready(Err(Error::Stopped));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

/// Writes the normal form of the path that is made of two texts, and a NUL, behind what is in a buffer;
/// tells the worker it is routed to.
pub(super) fn put_path(parts: &Parts, path: [&[u8]; 2], buf: &mut BufMut) -> Result<Option<u32>> {
    const TOO_LONG: Error = Error::BadPath("both paths together are longer than a buffer");
    let mut whole = heapless::Vec::<u8, { PATH_MAX + 1 }>::new();
    for part in path {
        // One byte more than a path may have tells that it is too long.
        let room = whole.capacity() - whole.len();
        let _ = whole.extend_from_slice(&part[..part.len().min(room)]);
    }
    let mut text = [0; PATH_MAX + 1];
    let base = parts.base();
    let len = normalise(&base, &whole, &mut text)?;
    buf.put(&text[..=len]).map_err(|_| TOO_LONG)?;
    Ok(route::owner(parts.config().routes, parts.workers(), &base, &text[..len]))
}
