//! Relaying between two TCP streams of a worker: one future moves buffers from queue to outbox.

use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::{Ended, Failed, RelayError, RelayOptions, Relayed, deadline};
use crate::Core;
use crate::error::Error;
use crate::net::tcp::SocketRef;
use crate::op::{Intake, Io};
use crate::task::WaitNode;
use crate::worker::Parts;

/// Two sockets of one worker that runs.
pub(super) struct Pair {
    core: Core,
    a: u32,
    b: u32,
}

/// The pair, where both are TCP sockets of this worker.
pub(super) fn pair(a: Option<SocketRef>, b: Option<SocketRef>) -> Option<Pair> {
    let (SocketRef(a), SocketRef(b)) = (a?, b?);
    let same = core::ptr::eq(a.core.parts().ok()?, b.core.parts().ok()?);
    same.then_some(Pair { core: a.core, a: a.at, b: b.at })
}

/// One direction's life.
///
/// ```text
///         first poll      end of stream, all handed on       all sent            shut down
///  Begins ----1----> On -----------------2--------------> Ending ---3---> Shutting ---4---> Done
///                     |\--- 5: its sender is gone ---> Cut(error) ---6: all sent or refused---\
///                     \---- 7: its receiver takes nothing any more (later, too) --------> Failed(error)
/// ```
///
/// All of it in [`Way::go_on`], but 5 and 7 in [`go_on`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Begins,
    On,
    Ending,
    Shutting,
    Done,
    Cut(Error),
    Failed(Error),
}

/// One direction.
struct Way {
    from: u32,
    to: u32,
    state: State,
}

pin_project! {
    /// Relays until both directions have ended.
    #[must_use = "it does nothing until awaited"]
    pub(super) struct Relay {
        core: Core,
        ways: [Way; 2],
        window: u16,
        // Milliseconds, and when it began; 0 is none.
        idle: u32,
        begun: u32,
        deadline: Option<u64>,
        #[pin]
        timer: WaitNode,
    }

    impl PinnedDrop for Relay {
        fn drop(this: Pin<&mut Self>) {
            // The streams are borrowed as long as this: the slots are theirs.
            if let Ok(parts) = this.core.parts() {
                for way in &this.ways {
                    parts.io.relay_over(way.from);
                }
            }
        }
    }
}

impl Relay {
    pub(super) fn both(pair: Pair, options: RelayOptions) -> Self {
        let Pair { a, b, .. } = pair;
        let ways = [Way::new(a, b, State::Begins), Way::new(b, a, State::Begins)];
        Self::new(pair, options, ways)
    }

    pub(super) fn one_way(pair: Pair, options: RelayOptions) -> Self {
        let Pair { a, b, .. } = pair;
        let ways = [Way::new(a, b, State::Begins), Way::new(a, b, State::Done)];
        Self::new(pair, options, ways)
    }

    fn new(pair: Pair, options: RelayOptions, ways: [Way; 2]) -> Self {
        let millis = |span: core::time::Duration| u32::try_from(span.as_millis());
        let idle = options.idle.map_or(0, |span| millis(span).unwrap_or(u32::MAX / 2).max(1));
        Self {
            core: pair.core,
            ways,
            window: options.window,
            idle: idle.min(u32::MAX / 2),
            begun: pair.core.parts().map_or(0, |parts| parts.io.now_ms.get()),
            deadline: deadline(&options),
            timer: WaitNode::new(),
        }
    }
}

impl Future for Relay {
    type Output = core::result::Result<Relayed, RelayError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let ways = this.ways;
        let done = match this.core.parts() {
            Err(stopped) => Poll::Ready(Err(stopped)),
            Ok(parts) => {
                let io = &parts.io;
                match go_on(io, ways, *this.window, cx) {
                    Poll::Pending if *this.idle != 0 || this.deadline.is_some() => {
                        let idle = (*this.idle != 0).then(|| {
                            let (a, b) = (io.socket(ways[0].from), io.socket(ways[0].to));
                            this.idle.saturating_sub(io.relay_idle_ms(*this.begun, a, b))
                        });
                        wait(parts, this.timer.into_ref(), idle, *this.deadline, cx).map(Err)
                    }
                    done => done,
                }
            }
        };
        if done.is_pending() {
            return Poll::Pending;
        }
        let relayed = this.core.parts().map_or(Relayed::default(), |parts| {
            let [there, back] = &*ways;
            let both = there.from != back.from;
            let b_to_a = if both { parts.io.relayed(back.from) } else { 0 };
            Relayed { a_to_b: parts.io.relayed(there.from), b_to_a }
        });
        done.map(|done| done.map(|()| relayed).map_err(|error| RelayError { error, relayed }))
    }
}

/// Waits, until no more than `idle` milliseconds are left or the deadline is there.
fn wait(
    parts: &'static Parts,
    timer: Pin<&WaitNode>,
    idle: Option<u32>,
    deadline: Option<u64>,
    cx: &Context<'_>,
) -> Poll<Error> {
    let now = parts.timers.turn();
    let idle = idle.map(|left| now + u64::from(left) * 1_000_000);
    let due = idle.into_iter().chain(deadline).min().unwrap_or(u64::MAX);
    if due <= now {
        return Poll::Ready(Error::TimedOut);
    }
    // A timer that is set stays: bytes that move meanwhile are looked at when it fires.
    parts.timers.set(timer, due, &parts.tasks, cx);
    Poll::Pending
}

/// Both directions, as far as they go now.
fn go_on(
    io: &'static Io,
    ways: &mut [Way; 2],
    window: u16,
    cx: &Context<'_>,
) -> Poll<core::result::Result<(), Error>> {
    for i in 0..2 {
        // A reset of the receiver shows at once where the other direction receives from it.
        let watched = ways[1 - i].state == State::On;
        if let Err(Failed { error, sending }) = ways[i].go_on(io, window, watched, cx) {
            io.give_up_intake(ways[i].from);
            if sending {
                // What that peer has said may still be delivered.
                ways[i].state = State::Failed(error);
            } else {
                // What this one said before is; nothing reaches it any more.
                ways[i].state = State::Cut(error);
                if ways[1 - i].state != State::Done {
                    io.give_up_intake(ways[1 - i].from);
                    ways[1 - i].state = State::Failed(error);
                }
                if let Err(failed) = ways[i].go_on(io, window, false, cx) {
                    ways[i].state = State::Failed(failed.error);
                }
            }
        }
    }
    match (ways[0].state, ways[1].state) {
        (State::Done, State::Done) => Poll::Ready(Ok(())),
        (State::Failed(error), State::Done | State::Failed(_))
        | (State::Done, State::Failed(error)) => Poll::Ready(Err(error)),
        _ => Poll::Pending,
    }
}

impl Way {
    fn new(from: u32, to: u32, state: State) -> Self {
        Self { from, to, state }
    }

    /// Hands on what there is, and waits for what is missing.
    #[inline]
    fn go_on(&mut self, io: &'static Io, window: u16, watched: bool, cx: &Context<'_>) -> Ended {
        let (from, to) = (io.socket(self.from), io.socket(self.to));
        if self.state == State::Begins {
            let most = io.outbox_size();
            let window = if window == 0 { most } else { window.min(most) };
            io.relay_from(self.from, self.to, window);
            io.start_flush(self.to); // what was pushed before
            self.state = State::On;
        }
        if self.state == State::On {
            match to.writable() {
                // Shut down before: an error once there are bytes for it.
                Err(Error::WriteClosed) if !io.has_received(self.from) => {}
                writable => writable.map_err(Failed::sending)?,
            }
            io.hand_on(from, self.to, to);
            match io.take_in((self.from, from), (self.to, to)).map_err(Failed::receiving)? {
                Intake::Ended => self.state = State::Ending,
                intake => {
                    from.on_received(io, cx);
                    if intake == Intake::Full || (!watched && io.is_sending(self.to)) {
                        to.on_sent(io, cx);
                    }
                }
            }
        }
        if self.state == State::Ending {
            match io.flushed(self.to, to) {
                None => to.on_sent(io, cx),
                Some(Ok(()) | Err(Error::WriteClosed)) => self.state = State::Shutting,
                Some(Err(error)) => return Err(Failed::sending(error)),
            }
        }
        if let State::Cut(error) = self.state {
            match io.flushed(self.to, to) {
                None => to.on_sent(io, cx),
                Some(_) => self.state = State::Failed(error),
            }
        }
        if self.state == State::Shutting
            && let Poll::Ready(shut) = io.poll_shutdown(self.to, cx)
        {
            shut.map_err(Failed::sending)?;
            self.state = State::Done;
        }
        Ok(())
    }
}
