//! Reading and writing as futures by hand: what is asked for a hundred thousand times a second is
//! moved once into its request, and once out of it.

use core::pin::Pin;
use core::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::File;
use super::file::check_offset;
use crate::buf::BufMut;
use crate::error::{Error, Result};
use crate::op::file::{Answer, Ask, Asked, Data, Request};
use crate::op::{Io, Out};
use crate::task::WaitNode;

/// The bytes of one request, and where they go.
pub(super) trait Payload {
    /// Whether it may be asked of this file. Nothing panics from here on, so that the bytes' handle can
    /// stay where it is until its parts go into the request.
    fn check(&self, file: &File, io: &Io) -> Result<()>;
    /// What is asked for.
    fn ask(self) -> (Asked, Data<'static>);
}

/// Into the room of a buffer.
pub(super) struct Reading {
    pub(super) into: BufMut,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) whole: bool,
}

impl Payload for Reading {
    #[inline]
    fn check(&self, file: &File, io: &Io) -> Result<()> {
        assert!(core::ptr::eq(self.into.store(), &io.bufs), "a buffer of another worker");
        check_offset(self.offset)?;
        if self.len as usize > self.into.spare() {
            return Err(Error::Other("read_exact_at: the buffer has less room than `len`"));
        }
        file.check_aligned(self.offset, self.into.capacity() - self.into.spare(), self.len as usize)
    }

    #[inline]
    fn ask(self) -> (Asked, Data<'static>) {
        let asked = Asked { offset: self.offset, whole: self.whole, ..Asked::new(Ask::Read) };
        (asked, Data::Into(self.into.into_parts(), self.len as usize))
    }
}

/// From a buffer, or from static bytes.
pub(super) struct Writing {
    pub(super) from: Out,
    pub(super) offset: u64,
    pub(super) ask: Ask,
    pub(super) whole: bool,
}

impl Payload for Writing {
    #[inline]
    fn check(&self, file: &File, _: &Io) -> Result<()> {
        check_offset(self.offset)?;
        let at = match &self.from {
            Out::Buf(buf) => buf.as_ptr().addr(),
            Out::Static(bytes) => bytes.as_ptr().addr(),
        };
        file.check_aligned(self.offset, at, self.from.len())
    }

    #[inline]
    fn ask(self) -> (Asked, Data<'static>) {
        let asked = Asked { offset: self.offset, whole: self.whole, ..Asked::new(self.ask) };
        (asked, Data::From(self.from))
    }
}

pin_project! {
    /// One read or write. Given up while it is on its way, it goes on, and its buffer goes when that
    /// ends.
    ///
    /// ```text
    ///  payload there --1: claimed, posted--> on its way --2: answered--> ended
    ///        \ 3: no request is free: waits in `node`
    /// ```
    #[repr(C)] // what every read touches first, and all of it one cache line
    pub(super) struct Transfer<'f, P, F> {
        // Once it is on its way.
        request: Option<&'static Request>,
        file: &'f File,
        // Until it is posted.
        payload: Option<P>,
        // Makes of the answer what is returned.
        finish: F,
        #[pin]
        node: Option<WaitNode>,
    }

    impl<P, F> PinnedDrop for Transfer<'_, P, F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(request) = this.request
                && let Ok(parts) = this.file.core().parts()
            {
                parts.io.give_up(request);
            }
        }
    }
}

impl<'f, P, F> Transfer<'f, P, F> {
    #[inline]
    pub(super) fn new(file: &'f File, payload: P, finish: F) -> Self {
        Self { file, payload: Some(payload), finish, request: None, node: None }
    }
}

impl<P, F, T> Future for Transfer<'_, P, F>
where
    P: Payload,
    F: Fn(&'static Io, &'static Request, Answer) -> Result<T>,
{
    type Output = Result<T>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let parts = this.file.core().parts()?;
        let io = &parts.io;
        let request = match *this.request {
            Some(request) => request,
            None => {
                let Some(payload) = this.payload.as_ref().filter(|_| !parts.tasks.closed.get())
                else {
                    return Poll::Ready(Err(Error::Stopped)); // or polled after its end
                };
                payload.check(this.file, io)?;
                let opened = this.file.opened(io).ok_or(Error::Stopped)?;
                let claimed = if this.node.is_none() { io.claim_request() } else { None };
                let request = match claimed {
                    Some(request) => request,
                    None => ready!(wait(io, this.node, cx)),
                };
                *this.request = Some(request);
                if let Some((asked, data)) = this.payload.take().map(Payload::ask) {
                    io.fill(request, opened.entry, asked, data);
                    io.post(request, opened.owner);
                }
                request
            }
        };
        let answer = ready!(io.poll_answer(request, cx));
        let result = (this.finish)(io, request, answer);
        *this.request = None;
        io.end_request(request);
        Poll::Ready(result)
    }
}

/// 3: waits for a free request.
#[cold]
fn wait(
    io: &'static Io,
    mut node: Pin<&mut Option<WaitNode>>,
    cx: &Context<'_>,
) -> Poll<&'static Request> {
    if node.is_none() {
        node.set(Some(WaitNode::new()));
    }
    match node.as_ref().as_pin_ref() {
        Some(node) => io.poll_request(node, cx),
        None => Poll::Pending,
    }
}
