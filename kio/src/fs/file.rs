//! `File`: reading, writing, syncing.

use core::fmt;

use super::metadata::Metadata;
use super::pending::Pending;
use super::transfer::{Reading, Transfer, Writing};
use crate::Core;
use crate::buf::{Buf, BufMut};
use crate::error::{Error, Result};
use crate::op::file::{Answer, Ask, Asked, Data, Opened, VECTORS_MAX};
use crate::op::{Io, Out};

/// An open file: this worker's handle on it. The file itself is open on its owner, the worker that
/// `routes` names, and every operation runs there, on the caller's buffer. Dropped, it closes.
///
/// Offsets are in bytes from the file's begin; there is no position that operations share, so any
/// number of them may run at once.
///
/// Cancel safety of all operations: given up, an operation goes on in the kernel, and its buffer
/// comes back to the store when it has ended. So a write that is given up may be done or not.
pub struct File {
    core: Core,
    handle: u32,
    /// What direct I/O wants memory and offsets to be multiples of; 0 where it is not direct.
    aligns: [u32; 2],
}

/// How a range of a file will be used; see [`File::advise`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Advice {
    /// Nothing is known.
    Normal = 0,
    /// In no order: read no more ahead.
    Random = 1,
    /// From front to back: read more ahead.
    Sequential = 2,
    /// Soon: read it now.
    WillNeed = 3,
    /// Not soon: drop it from the page cache.
    DontNeed = 4,
    /// Once.
    NoReuse = 5,
}

impl File {
    pub(super) fn new(core: Core, handle: u32, aligns: [u32; 2]) -> Self {
        Self { core, handle, aligns }
    }

    /// The worker that holds this handle.
    pub fn core(&self) -> Core {
        self.core
    }

    /// What offsets and lengths must be multiples of, in bytes: 1, or a block of the file system where
    /// the file is open for direct I/O.
    pub fn block(&self) -> usize {
        self.aligns[1].max(1) as usize
    }

    /// The descriptor, where this worker owns the file.
    pub(super) fn descriptor(&self) -> Option<i32> {
        self.core.parts().ok()?.io.descriptor(self.handle)
    }

    /// What it is of, as its worker knows it.
    #[inline]
    pub(super) fn opened(&self, io: &Io) -> Option<Opened> {
        io.opened_by(self.handle)
    }

    #[inline]
    async fn ask(&self, asked: Asked, data: Data<'_>) -> Result<(Pending, Answer)> {
        check_offset(asked.offset)?;
        let pending = Pending::claim(self.core).await?;
        let opened = self.core.parts()?.io.opened_by(self.handle).ok_or(Error::Stopped)?;
        let answer = pending.ask(opened.owner, opened.entry, asked, data).await?;
        Ok((pending, answer))
    }

    // ---- reading ----

    /// Reads at an offset, into the room behind what is in `buf`, as much as fits and is there at
    /// once. The buffer comes back with what was read; nothing is added at the end of the file.
    ///
    /// Errors: the system's; `Misaligned` of a direct file.
    #[inline]
    pub fn read_at(&self, buf: BufMut, offset: u64) -> impl Future<Output = Result<BufMut>> {
        self.read(buf, offset, false)
    }

    /// Reads at an offset until `buf` is full or the file ends, carrying on after short reads: a buffer
    /// that comes back with room has the file's last byte.
    ///
    /// Errors: as [`File::read_at`].
    #[inline]
    pub fn read_full_at(&self, buf: BufMut, offset: u64) -> impl Future<Output = Result<BufMut>> {
        self.read(buf, offset, true)
    }

    #[inline]
    fn read(&self, buf: BufMut, offset: u64, whole: bool) -> impl Future<Output = Result<BufMut>> {
        let len = buf.spare() as u32;
        let reading = Reading { into: buf, offset, len, whole };
        Transfer::new(self, reading, |io: &'static Io, request, answer: Answer| {
            answer.check("read")?;
            io.take_buffer(request).ok_or(Error::Stopped)
        })
    }

    /// Reads exactly `len` bytes at an offset, behind what is in `buf`.
    ///
    /// Errors: as [`File::read_at`]; `EndOfFile`; `len` is more than `buf` has room for.
    #[inline]
    pub fn read_exact_at(
        &self,
        buf: BufMut,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = Result<BufMut>> {
        // More than a buffer can have room for stays so.
        let most = u32::try_from(len).unwrap_or(u32::MAX);
        let reading = Reading { into: buf, offset, len: most, whole: true };
        Transfer::new(self, reading, move |io: &'static Io, request, answer: Answer| {
            match answer.check("read")?.done == len as u64 {
                true => io.take_buffer(request).ok_or(Error::Stopped),
                false => Err(Error::EndOfFile),
            }
        })
    }

    /// Reads at an offset into the room of many buffers, one after another: one operation. They come
    /// back with what was read.
    ///
    /// Errors: as [`File::read_at`]. Takes one more buffer for their list; where none is free, they are
    /// read one after another.
    pub async fn read_scattered_at<const N: usize>(
        &self,
        bufs: [BufMut; N],
        offset: u64,
    ) -> Result<[BufMut; N]> {
        const { assert!(N <= VECTORS_MAX, "kio: at most 64 buffers are read at once") };
        let bufs = heapless::Vec::<_, N>::from(bufs);
        self.read_many(bufs, offset).await?.into_array().map_err(|_| Error::Stopped)
    }

    /// Reads into the room of as many buffers as are given.
    pub(super) async fn read_many<const N: usize>(
        &self,
        mut bufs: heapless::Vec<BufMut, N>,
        offset: u64,
    ) -> Result<heapless::Vec<BufMut, N>> {
        for buf in &bufs {
            self.check_aligned(offset, buf.capacity() - buf.spare(), buf.spare())?;
        }
        if bufs.len() <= 1 {
            if let Some(buf) = bufs.pop() {
                let _ = bufs.push(self.read_at(buf, offset).await?);
            }
            return Ok(bufs);
        }
        // Not waited for: others who hold buffers may wait for one more too.
        let Some(list) = self.core.try_buf() else {
            return self.read_each(bufs, offset).await;
        };
        let asked = Asked { offset, ..Asked::new(Ask::Read) };
        let data = Data::IntoMany(list, &mut bufs.into_iter());
        let (pending, answer) = self.ask(asked, data).await?;
        answer.check("read")?;
        let mut read = heapless::Vec::new();
        self.core.parts()?.io.take_buffers(pending.request, |buf| {
            let _ = read.push(buf);
        });
        Ok(read)
    }

    /// The same, one after another.
    async fn read_each<const N: usize>(
        &self,
        bufs: heapless::Vec<BufMut, N>,
        mut offset: u64,
    ) -> Result<heapless::Vec<BufMut, N>> {
        let mut read = heapless::Vec::new();
        let mut goes_on = true;
        for buf in bufs {
            let (room, had) = (buf.spare(), buf.len());
            let buf = if goes_on { self.read_at(buf, offset).await? } else { buf };
            let came = buf.len() - had;
            offset += came as u64;
            goes_on &= came == room;
            let _ = read.push(buf);
        }
        Ok(read)
    }

    // ---- writing ----

    /// Writes at an offset, as much as the system takes at once; tells how many bytes.
    ///
    /// Errors: the system's (`ENOSPC`, `EFBIG`, ..); `Misaligned` of a direct file.
    #[inline]
    pub fn write_at(
        &self,
        bytes: impl Into<Out>,
        offset: u64,
    ) -> impl Future<Output = Result<usize>> {
        let written = |answer: Answer| Ok(answer.check("write")?.done as usize);
        self.write(bytes.into(), offset, Ask::Write, false, written)
    }

    /// Writes all of it at an offset, carrying on after short writes.
    ///
    /// Errors: as [`File::write_at`]; a part may have been written then.
    #[inline]
    pub fn write_all_at(
        &self,
        bytes: impl Into<Out>,
        offset: u64,
    ) -> impl Future<Output = Result<()>> {
        let written = |answer: Answer| answer.check("write").map(drop);
        self.write(bytes.into(), offset, Ask::Write, true, written)
    }

    /// Writes all of many buffers at an offset, one after another: one operation, if the system takes
    /// them at once.
    ///
    /// Errors: as [`File::write_all_at`]. Takes one more buffer for their list; where none is free, they
    /// are written one after another.
    pub async fn write_gathered_at<const N: usize>(
        &self,
        bufs: [Buf; N],
        offset: u64,
    ) -> Result<()> {
        const { assert!(N <= VECTORS_MAX, "kio: at most 64 buffers are written at once") };
        for buf in &bufs {
            self.check_aligned(offset, buf.as_ptr().addr(), buf.len())?;
        }
        let Some(list) = self.core.try_buf() else {
            let mut at = offset;
            for buf in bufs {
                let len = buf.len() as u64;
                self.write_all_at(buf, at).await?;
                at += len;
            }
            return Ok(());
        };
        let asked = Asked { offset, whole: true, ..Asked::new(Ask::Write) };
        let (_pending, answer) =
            self.ask(asked, Data::FromMany(list, &mut bufs.into_iter())).await?;
        answer.check("write").map(drop)
    }

    /// Copies bytes into buffers and writes them all at an offset.
    ///
    /// Cancel safety: given up, a part may be written. Errors: as [`File::write_all_at`].
    pub async fn write_copy_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            let mut buf = self.core.buf().await?;
            let n = buf.put_some(bytes);
            self.write_all_at(buf, offset).await?;
            bytes = &bytes[n..];
            offset += n as u64;
        }
        Ok(())
    }

    /// Writes all of it at the file's end, and tells at which offset. The owner keeps the end: appends
    /// through any handle of its, from any worker, never meet, and they may run at once. Nobody else
    /// may append to the file meanwhile.
    ///
    /// Errors: as [`File::write_all_at`]. An append that fails beside others may leave a hole of
    /// zeros where it would have been.
    #[inline]
    pub fn append(&self, bytes: impl Into<Out>) -> impl Future<Output = Result<u64>> {
        let begins = |answer: Answer| Ok(answer.check("append")?.value);
        self.write(bytes.into(), 0, Ask::Append, true, begins)
    }

    #[inline]
    fn write<T>(
        &self,
        from: Out,
        offset: u64,
        ask: Ask,
        whole: bool,
        told: impl Fn(Answer) -> Result<T>,
    ) -> impl Future<Output = Result<T>> {
        let writing = Writing { from, offset, ask, whole };
        Transfer::new(self, writing, move |_, _, answer| told(answer))
    }

    /// Direct I/O takes whole blocks only; `at` is the place in memory.
    #[inline]
    pub(super) fn check_aligned(&self, offset: u64, at: usize, len: usize) -> Result<()> {
        if self.aligns[1] == 0 { Ok(()) } else { self.check_direct(offset, at, len) }
    }

    fn check_direct(&self, offset: u64, at: usize, len: usize) -> Result<()> {
        let [memory, block] = self.aligns;
        let aligned = |n: u64, align: u32| n.is_multiple_of(u64::from(align));
        if aligned(offset, block) && aligned(len as u64, block) && aligned(at as u64, memory) {
            return Ok(());
        }
        Err(Error::Misaligned { need: block.max(memory) })
    }

    // ---- what is not bytes ----

    /// Waits until what was written before is on the device, with the file's metadata. Those who
    /// wait at the same time, on any worker, share one sync.
    ///
    /// Errors: the system's (`EIO`): then what was written may be lost.
    pub async fn sync_all(&self) -> Result<()> {
        self.sync(false).await
    }

    /// As [`File::sync_all`], but only with what metadata is needed to read the bytes again.
    pub async fn sync_data(&self) -> Result<()> {
        self.sync(true).await
    }

    async fn sync(&self, data_only: bool) -> Result<()> {
        self.plainly("sync", Asked { option: data_only, ..Asked::new(Ask::Sync) }).await
    }

    /// Makes the file shorter, or longer by zeros.
    ///
    /// Errors: the system's. Before Linux 6.9 the call blocks the owner for its length.
    pub async fn set_len(&self, len: u64) -> Result<()> {
        self.plainly("set_len", Asked { offset: len, ..Asked::new(Ask::SetLen) }).await
    }

    /// Takes room on the device for a range, so that writes there do not fail for want of it; the
    /// file becomes longer if the range is.
    ///
    /// Errors: the system's (`ENOSPC`; `EOPNOTSUPP`, if the file system cannot).
    pub async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.plainly("allocate", Asked { offset, len, ..Asked::new(Ask::Allocate) }).await
    }

    /// Gives the room of a range back to the device; it reads as zeros. The file keeps its length.
    ///
    /// Errors: the system's (`EOPNOTSUPP`, if the file system cannot).
    pub async fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let args = [(libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE) as u32, 0];
        self.plainly("punch_hole", Asked { offset, len, args, ..Asked::new(Ask::Allocate) }).await
    }

    /// Tells the system how a range will be used; `len` 0 is up to the end.
    ///
    /// Errors: the system's.
    pub async fn advise(&self, advice: Advice, offset: u64, len: u64) -> Result<()> {
        let args = [advice as u32, 0];
        self.plainly("advise", Asked { offset, len, args, ..Asked::new(Ask::Advise) }).await
    }

    async fn plainly(&self, doing: &'static str, asked: Asked) -> Result<()> {
        let (_pending, answer) = self.ask(asked, Data::Nothing).await?;
        answer.check(doing).map(drop)
    }

    /// Size, times and the rest. Takes a buffer meanwhile.
    ///
    /// Errors: the system's.
    pub async fn metadata(&self) -> Result<Metadata> {
        let into = self.core.buf().await?;
        let (pending, answer) = self.ask(Asked::new(Ask::Stat), Data::Paths(into, 0)).await?;
        answer.check("metadata")?;
        Ok(Metadata::new(self.core.parts()?.io.stat_of(pending.request)))
    }

    /// Closes, and waits for it. Dropping closes too, and its error is lost.
    ///
    /// Cancel safety: given up, it closes all the same. Errors: the system's, of the last handle that
    /// is closed; on most file systems there are none, and what was written is safe only after a
    /// sync.
    pub async fn close(self) -> Result<()> {
        let core = self.core;
        let closing = core.parts()?.io.close_handle(self.handle);
        core::mem::forget(self);
        let Some(request) = closing else { return Err(Error::Stopped) };
        let pending = Pending::of(core, request);
        pending.answer().await?.check("close").map(drop)
    }
}

/// The kernel would take the last offset there is for "where the descriptor stands".
#[inline]
pub(super) fn check_offset(offset: u64) -> Result<()> {
    match i64::try_from(offset) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Os { doing: "a file's offset", errno: libc::EINVAL }),
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Ok(parts) = self.core.parts()
            && let Some(request) = parts.io.close_handle(self.handle)
        {
            parts.io.give_up(request);
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.handle)
    }
}
