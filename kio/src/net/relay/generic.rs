//! Relaying between any two streams: receive what is there, push it, flush.

use core::cell::Cell;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};

use super::{Ended, Failed, RelayError, RelayOptions, Relayed, deadline};
use crate::Core;
use crate::buf::Buf;
use crate::error::{Error, Result};
use crate::net::{RecvHalf, SendHalf};
use crate::task::WaitNode;

/// What both directions have handed on.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) there: Cell<u64>,
    pub(super) back: Cell<u64>,
}

/// One direction, to its end.
pub(super) async fn one_way(
    from: &mut impl RecvHalf,
    to: &mut impl SendHalf,
    bytes: &Cell<u64>,
) -> Ended {
    let ended = 'all: loop {
        match from.recv().await {
            Ok(Some(buf)) => push(to, buf, bytes).await?,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        // What has arrived besides goes with it.
        while let Some(received) = now(from.recv()).await {
            match received {
                Ok(Some(buf)) => push(to, buf, bytes).await?,
                Ok(None) => break 'all Ok(()),
                Err(error) => break 'all Err(error),
            }
        }
        to.flush().await.map_err(Failed::sending)?;
    };
    match ended {
        Ok(()) => to.shutdown().await.map_err(Failed::sending),
        Err(error) => {
            // What was said before is delivered; that error tells more than this one's.
            let _ = to.flush().await;
            Err(Failed::receiving(error))
        }
    }
}

async fn push(to: &mut impl SendHalf, buf: Buf, bytes: &Cell<u64>) -> Ended {
    let len = buf.len() as u64;
    to.push(buf).await.map_err(Failed::sending)?;
    bytes.set(bytes.get() + len);
    Ok(())
}

/// What a future gives without waiting; a receive that does not has taken nothing.
async fn now<T>(future: impl Future<Output = Result<T>>) -> Option<Result<T>> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// One direction beside the other: polled until it has ended.
struct Way<F> {
    ended: Option<Ended>,
    future: F,
}

impl<F: Future<Output = Ended>> Way<Pin<&mut F>> {
    /// False where its end is the end of all.
    fn go_on(&mut self, cx: &mut Context<'_>) -> core::result::Result<(), Error> {
        if self.ended.is_none()
            && let Poll::Ready(ended) = self.future.as_mut().poll(cx)
        {
            if let Err(failed) = &ended
                && !failed.sending
            {
                return Err(failed.error);
            }
            self.ended = Some(ended);
        }
        Ok(())
    }
}

/// Both directions, until both have ended, one has failed for both, or a time is over.
pub(super) async fn both(
    core: Core,
    there: impl Future<Output = Ended>,
    back: impl Future<Output = Ended>,
    counts: &Counts,
    options: RelayOptions,
) -> core::result::Result<Relayed, RelayError> {
    let mut there = Way { ended: None, future: pin!(there) };
    let mut back = Way { ended: None, future: pin!(back) };
    let mut limits = pin!(Limits::new(core, options));
    let done = poll_fn(|cx| {
        if let Err(error) = there.go_on(cx).and_then(|()| back.go_on(cx)) {
            return Poll::Ready(Err(error));
        }
        if let (Some(there), Some(back)) = (&there.ended, &back.ended) {
            let error = there.as_ref().err().or(back.as_ref().err());
            return Poll::Ready(error.map_or(Ok(()), |failed| Err(failed.error)));
        }
        let moved = counts.there.get().wrapping_add(counts.back.get());
        limits.as_mut().poll(core, moved, cx).map(Err)
    })
    .await;
    let relayed = Relayed { a_to_b: counts.there.get(), b_to_a: counts.back.get() };
    done.map(|()| relayed).map_err(|error| RelayError { error, relayed })
}

pin_project_lite::pin_project! {
    /// The timeouts.
    struct Limits {
        idle: Option<u64>,
        deadline: Option<u64>,
        // Bytes moved when last looked, and when that number last changed, in nanoseconds.
        moved: u64,
        since: u64,
        #[pin]
        timer: WaitNode,
    }
}

impl Limits {
    fn new(core: Core, options: RelayOptions) -> Self {
        let idle = options.idle.map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let since = core.parts().map_or(0, |parts| parts.timers.turn());
        Self { idle, deadline: deadline(&options), moved: 0, since, timer: WaitNode::new() }
    }

    fn poll(self: Pin<&mut Self>, core: Core, moved: u64, cx: &mut Context<'_>) -> Poll<Error> {
        let this = self.project();
        if this.idle.is_none() && this.deadline.is_none() {
            return Poll::Pending;
        }
        let Ok(parts) = core.parts() else { return Poll::Ready(Error::Stopped) };
        let now = parts.timers.turn();
        if core::mem::replace(this.moved, moved) != moved {
            *this.since = now;
        }
        let idle = this.idle.map(|span| this.since.saturating_add(span));
        let due = idle.into_iter().chain(*this.deadline).min().unwrap_or(u64::MAX);
        if now >= due {
            return Poll::Ready(Error::TimedOut);
        }
        parts.timers.set(this.timer.into_ref(), due, &parts.tasks, cx);
        Poll::Pending
    }
}
