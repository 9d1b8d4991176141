//! The futures of a channel: a value on its way in, and one on its way out.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::channel::{State, Tried};
use super::{SendError, TryRecvError, TrySendError};
use crate::task::{Gate, Line, Place, let_go, wake};

/// What values are put into: a channel's state, whatever its size (`pin_project` takes no const
/// parameter).
pub(super) trait Accept<T> {
    /// Puts the value in, if there is a place for it: its own, where it was called.
    fn push(&mut self, value: T, called: bool) -> Tried<(), TrySendError<T>>;

    /// A send that had been called was given up: its place is the next one's.
    fn give_back(&mut self, line: &mut Line) -> Option<Waker>;
}

pin_project! {
    /// Sends a value; see [`Sender::send`](super::Sender::send).
    pub(super) struct Send<'a, T, S>
    where
        S: Accept<T>,
    {
        value: Option<T>,
        #[pin]
        place: Place<'a, S>,
    }

    impl<T, S> PinnedDrop for Send<'_, T, S>
    where
        S: Accept<T>,
    {
        fn drop(this: Pin<&mut Self>) {
            let place = this.project().place;
            if place.has_begun() {
                wake(place.leave(|state, line, called| {
                    if called { state.give_back(line) } else { None }
                }));
            }
        }
    }
}

impl<'a, T, S: Accept<T>> Send<'a, T, S> {
    pub(super) fn new(gate: &'a Gate<S>, value: T) -> Self {
        Self { value: Some(value), place: Place::new(gate) }
    }
}

impl<T, S: Accept<T>> Future for Send<'_, T, S> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let value = this.value;
        let polled = this.place.into_ref().poll(cx, |state, _, called| {
            let sent = value.take().expect("a send is not polled after it was ready");
            match state.push(sent, called) {
                Ok(((), waker)) => Poll::Ready(Ok(waker)),
                Err(TrySendError::Closed(back)) => Poll::Ready(Err(SendError(back))),
                Err(TrySendError::Full(back)) => {
                    *value = Some(back);
                    Poll::Pending
                }
            }
        });
        polled.map_ok(wake)
    }
}

/// Receives a value; see [`Receiver::recv`](super::Receiver::recv).
pub(super) struct Recv<'a, T, const N: usize> {
    gate: &'a Gate<State<T, N>>,
    /// Whether our waker may be in the channel.
    waits: bool,
}

impl<'a, T, const N: usize> Recv<'a, T, N> {
    pub(super) fn new(gate: &'a Gate<State<T, N>>) -> Self {
        Self { gate, waits: false }
    }
}

impl<T, const N: usize> Future for Recv<'_, T, N> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let waker = cx.waker().clone();
        let (polled, unused) = self.gate.with(|state, line| match state.pop(line) {
            Ok(popped) => (Poll::Ready(Some(popped)), Some(waker)),
            Err(TryRecvError::Closed) => (Poll::Ready(None), Some(waker)),
            Err(TryRecvError::Empty) => (Poll::Pending, state.receiver_waits(Some(waker))),
        });
        let_go(unused);
        // Whoever made it ready took the waker; one that is left wakes once too often at most.
        self.waits = polled.is_pending();
        polled.map(|popped| {
            popped.map(|(value, sender)| {
                wake(sender);
                value
            })
        })
    }
}

impl<T, const N: usize> Drop for Recv<'_, T, N> {
    fn drop(&mut self) {
        if self.waits {
            let_go(self.gate.with(|state, _| state.receiver_waits(None)));
        }
    }
}
