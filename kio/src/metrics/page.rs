//! A page of metrics: lines written into a pool buffer, which is sent when the next does not fit.

use core::fmt::{Arguments, Display, Write};

use super::text::{Head, Line, is_name};
use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::net::SendHalf;

/// What a family of samples is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A number that only rises, from zero at each start. By custom its name ends in `_total`.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// Samples `NAME_bucket` with a label `le`, each with those before it, `NAME_sum`, `NAME_count`.
    Histogram,
    /// Anything else.
    Untyped,
}

impl Kind {
    const fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }
}

/// Room for a chunk's length, in hexadecimal with leading zeros, and its line's end.
const CHUNK_HEAD: usize = 10;
const CHUNK_TAIL: usize = 2;

/// A page that is being written: to a scraper, a buffer at a time. Lines wait while the scraper takes
/// none.
pub struct Page<'a, S> {
    to: &'a mut S,
    /// What is not sent yet: whole lines, behind the head of their chunk.
    buf: Option<BufMut>,
    /// HTTP/1.1: the page comes in chunks, so that one that was cut off shows.
    chunked: bool,
}

impl<'a, S: SendHalf> Page<'a, S> {
    pub(super) fn new(to: &'a mut S, chunked: bool) -> Self {
        Self { to, buf: None, chunked }
    }

    /// Opens a family of samples: all of one name stand together, behind this. The name is of
    /// letters, digits, `_` and `:`; the help is one sentence of any text.
    ///
    /// Errors: what sending fails with; a name that is none.
    pub async fn family(&mut self, name: &str, kind: Kind, help: &str) -> Result<()> {
        check(is_name(name, false))?;
        self.line(format_args!("{}", Head { name, kind: kind.text(), help })).await
    }

    /// Adds a sample of the family that was opened last. Labels are pairs of a name (letters, digits,
    /// `_`) and any text; no two samples may have the same ones.
    ///
    /// Errors: what sending fails with; a name that is none; a line longer than a buffer.
    pub async fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &dyn Display)],
        value: impl Display,
    ) -> Result<()> {
        check(is_name(name, false) && labels.iter().all(|(label, _)| is_name(label, true)))?;
        self.line(format_args!("{}", Line { name, labels, value })).await
    }

    /// Writes whole lines: into the buffer, or into another where it has no room left. The full one is
    /// sent and given back first: a page holds one at a time.
    async fn line(&mut self, text: Arguments<'_>) -> Result<()> {
        if self.try_line(text) {
            return Ok(());
        }
        self.send().await?;
        let mut buf = self.to.core().buf().await?;
        buf.put_some(&[b'0'; CHUNK_HEAD][..self.chunk_head()]);
        self.buf = Some(buf);
        match self.try_line(text) {
            true => Ok(()),
            false => Err(Error::Other("a line of metrics is longer than a buffer")),
        }
    }

    fn try_line(&mut self, text: Arguments<'_>) -> bool {
        let Some(buf) = &mut self.buf else { return false };
        let before = buf.len();
        let written = buf.write_fmt(text).is_ok() && buf.spare() >= CHUNK_TAIL;
        if !written {
            buf.truncate(before);
        }
        written
    }

    const fn chunk_head(&self) -> usize {
        if self.chunked { CHUNK_HEAD } else { 0 }
    }

    /// Sends what is in the buffer, if there is anything: an empty chunk would be the last.
    async fn send(&mut self) -> Result<()> {
        let len = self.buf.as_ref().map_or(0, |buf| buf.len() - self.chunk_head());
        let Some(mut buf) = self.buf.take().filter(|_| len > 0) else { return Ok(()) };
        if self.chunked {
            let mut head = heapless::String::<CHUNK_HEAD>::new();
            let _ = write!(head, "{len:08x}\r\n");
            buf[..CHUNK_HEAD].copy_from_slice(head.as_bytes());
            buf.put_some(b"\r\n");
        }
        self.to.send(buf).await
    }

    /// Ends the page.
    pub(super) async fn end(mut self) -> Result<()> {
        self.send().await?;
        if self.chunked { self.to.send("0\r\n\r\n").await } else { Ok(()) }
    }
}

fn check(is_name: bool) -> Result<()> {
    match is_name {
        true => Ok(()),
        false => Err(Error::Other("a metric or a label has a name that Prometheus does not take")),
    }
}
