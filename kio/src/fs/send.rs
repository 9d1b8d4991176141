//! Sending a file's bytes to a stream: through buffers of the store, read ahead of the send.

use core::future::poll_fn;
use core::ops::Range;
use core::pin::pin;
use core::task::Poll;

use super::File;
use crate::buf::{Buf, BufMut};
use crate::error::Result;
use crate::net::SendHalf;

/// Buffers that are read and sent at once.
const GROUP: usize = 4;

type Group = heapless::Vec<Buf, GROUP>;

impl File {
    /// Sends a range of the file, and waits until the system has taken all of it. Returns how many
    /// bytes: fewer than the range if the file ends before, or becomes shorter meanwhile.
    ///
    /// While some buffers are sent the next ones are read: up to eight at once, fewer when they are
    /// scarce. One copy into a buffer, by the page cache, and one out of it, by the socket; no pipe.
    ///
    /// Cancel safety: given up, what was pushed goes out whole. Errors: those of reading and of
    /// sending; a part may have been sent then.
    pub async fn send_to(&self, to: &mut impl SendHalf, range: Range<u64>) -> Result<u64> {
        let (mut at, end) = (range.start, range.end);
        let room = to.record_room();
        let mut group = self.read_group(at, end, room).await?;
        while !group.is_empty() {
            let bytes: u64 = group.iter().map(|buf| buf.len() as u64).sum();
            at += bytes;
            for buf in group {
                to.push(buf).await?;
            }
            let mut next = pin!(self.read_group(at, end, room));
            let mut sent = pin!(to.flush());
            let (mut read, mut flushed) = (None, None);
            poll_fn(|cx| {
                if flushed.is_none()
                    && let Poll::Ready(result) = sent.as_mut().poll(cx)
                {
                    flushed = Some(result);
                }
                if read.is_none()
                    && let Poll::Ready(result) = next.as_mut().poll(cx)
                {
                    read = Some(result);
                }
                if read.is_some() && flushed.is_some() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            flushed.unwrap_or(Ok(()))?;
            group = read.unwrap_or(Ok(Group::new()))?;
        }
        Ok(at - range.start)
    }

    /// Reads the next bytes up to `end`, into as many buffers as there are, up to a group. Each is left
    /// `room`: a sender that wanted another buffer, while these are held, might wait for ever.
    async fn read_group(&self, at: u64, end: u64, room: usize) -> Result<Group> {
        let left = end.saturating_sub(at);
        let mut group = Group::new();
        if left == 0 {
            return Ok(group);
        }
        let core = self.core();
        let mut bufs = heapless::Vec::<_, GROUP>::new();
        let first = self.with_room(core.buf().await?, room);
        let mut fits = first.spare() as u64;
        let _ = bufs.push(first);
        while fits < left && bufs.len() < GROUP {
            let Some(buf) = core.try_buf() else { break };
            let buf = self.with_room(buf, room);
            fits += buf.spare() as u64;
            let _ = bufs.push(buf);
        }
        let read = self.read_many(bufs, at).await?;
        let mut left = left;
        for buf in read {
            let mut buf = buf.freeze();
            buf.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= buf.len() as u64;
            if !buf.is_empty() {
                let _ = group.push(buf);
            }
        }
        Ok(group)
    }

    /// Keeps the begin of a buffer free, but where the file wants whole blocks.
    fn with_room(&self, mut buf: BufMut, room: usize) -> BufMut {
        let rest = buf.spare().saturating_sub(room);
        if room > 0 && self.check_aligned(0, room, rest).is_ok() {
            buf.begin_at(room);
        }
        buf
    }
}
