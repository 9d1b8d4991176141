//! A bounded channel between workers: its state, and the handles.
//!
//! Values, the line of senders and the receiver's waker lie under one short lock, so each step below
//! is one step to every thread. Wakers are woken, and values dropped, after it.

use core::fmt;
use core::task::Waker;

use heapless::Deque;

use super::transfer::{Accept, Recv, Send};
use super::{SendError, TryRecvError, TrySendError};
use crate::task::{Gate, Line, wake};

/// A channel of at most `N` values, in a static: from any number of senders to one receiver, on any
/// workers or threads.
///
/// Handles are taken from it. A full channel makes `send` wait, in order of arrival; nothing is
/// dropped, and nothing allocated. A side is woken only if it waits.
///
/// ```
/// use kio::sync::Channel;
///
/// static LINES: Channel<u32, 16> = Channel::new();
///
/// async fn one_worker() {
///     let lines = LINES.sender().expect("open");
///     for line in 0..100 {
///         lines.send(line).await.expect("the receiver is there");
///     }
/// } // the last sender is gone: the receiver gets what is left, and then `None`
///
/// async fn another() {
///     let mut lines = LINES.receiver().expect("taken once");
///     while let Some(line) = lines.recv().await {
///         // ..
/// #       let _ = line;
///     }
/// }
/// # embassy_futures::block_on(embassy_futures::join::join(another(), one_worker()));
/// ```
///
/// # Its life
///
/// ```text
///          last sender gone, close,
///          or receiver gone                   both sides gone
///   Open ---------1---------> Closed ------------2------------> Open, as new
/// ```
///
/// Closed, it takes no more values and gives no more senders; what is in it is still received. Where
/// the receiver goes first, what is in it is dropped. Once both sides are gone it is as new, so a
/// static serves a pool that starts again. A receiver that was not taken yet may still be, however
/// many senders have come and gone.
pub struct Channel<T, const N: usize> {
    gate: Gate<State<T, N>>,
}

/// What lies under the lock.
pub(super) struct State<T, const N: usize> {
    values: Deque<T, N>,
    /// The receiver's, while it waits.
    receiver_waker: Option<Waker>,
    /// Places kept for sends that were called and have not come yet: values and these are at most
    /// `N`, and somebody waits uncalled only while they are `N`. 0 once closed.
    granted: usize,
    senders: usize,
    receiver: Side,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Untaken,
    Taken,
    Gone,
}

/// What a try came to: a value's way in or out, and whom to wake for it.
pub(super) type Tried<T, E> = Result<(T, Option<Waker>), E>;

impl<T, const N: usize> State<T, N> {
    /// Takes the first value out, and calls the first who waits for its place.
    pub(super) fn pop(&mut self, line: &mut Line) -> Tried<T, TryRecvError> {
        match self.values.pop_front() {
            Some(value) => Ok((value, self.grant(line))),
            None if self.closed => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// A place is free: the first in line is called to it.
    pub(super) fn grant(&mut self, line: &mut Line) -> Option<Waker> {
        if self.closed {
            return None;
        }
        let waker = line.call_first();
        self.granted += usize::from(waker.is_some());
        waker
    }

    /// The receiver waits, or does no longer. The waker before is to be dropped outside.
    pub(super) fn receiver_waits(&mut self, waker: Option<Waker>) -> Option<Waker> {
        core::mem::replace(&mut self.receiver_waker, waker)
    }

    /// 1.
    fn close(&mut self) -> Option<Waker> {
        self.closed = true;
        self.granted = 0;
        self.receiver_waker.take()
    }

    /// 2, if both sides are gone: no send is left either, since it borrows its sender.
    fn renew(&mut self) {
        if self.senders == 0 && self.receiver == Side::Gone {
            self.receiver = Side::Untaken;
            self.closed = false;
        }
    }
}

impl<T, const N: usize> Accept<T> for State<T, N> {
    fn push(&mut self, value: T, called: bool) -> Tried<(), TrySendError<T>> {
        if self.closed {
            return Err(TrySendError::Closed(value));
        }
        if called {
            self.granted -= 1;
        } else if self.values.len() + self.granted >= N {
            return Err(TrySendError::Full(value));
        }
        match self.values.push_back(value) {
            Ok(()) => Ok(((), self.receiver_waker.take())),
            Err(value) => Err(TrySendError::Full(value)), // not while the sum above holds
        }
    }

    fn give_back(&mut self, line: &mut Line) -> Option<Waker> {
        if self.closed {
            return None;
        }
        self.granted -= 1;
        self.grant(line)
    }
}

impl<T, const N: usize> Channel<T, N> {
    /// An empty channel. `N` is at least 1.
    pub const fn new() -> Self {
        const { assert!(N > 0, "kio: a channel holds at least one value") };
        Self {
            gate: Gate::new(State {
                values: Deque::new(),
                receiver_waker: None,
                granted: 0,
                senders: 0,
                receiver: Side::Untaken,
                closed: false,
            }),
        }
    }

    /// A handle to send with, as many as are wanted; `None` where the channel is closed.
    pub fn sender(&self) -> Option<Sender<'_, T, N>> {
        self.gate.with(|state, _| {
            (!state.closed).then(|| {
                state.senders += 1;
                Sender { channel: self }
            })
        })
    }

    /// The handle to receive with; `None` where it was taken.
    pub fn receiver(&self) -> Option<Receiver<'_, T, N>> {
        self.gate.with(|state, _| {
            (state.receiver == Side::Untaken).then(|| {
                state.receiver = Side::Taken;
                Receiver { channel: self }
            })
        })
    }

    fn close(&self) {
        wake(self.gate.call_all(State::close));
    }
}

impl<T, const N: usize> Default for Channel<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends into a [`Channel`]. The last one's drop closes it.
pub struct Sender<'a, T, const N: usize> {
    channel: &'a Channel<T, N>,
}

impl<'a, T, const N: usize> Sender<'a, T, N> {
    /// Sends a value; waits, first come first served, while the channel is full.
    ///
    /// Error: the channel is closed, with the value.
    ///
    /// Cancel safety: a send that was given up has sent nothing; the value is dropped with it. One
    /// that waits and is *forgotten* may keep one of the `N` places for good.
    pub fn send(&self, value: T) -> impl Future<Output = Result<(), SendError<T>>> {
        Send::new(&self.channel.gate, value)
    }

    /// Sends a value, if there is room that nobody waits for. The error holds the value.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let ((), waker) = self.channel.gate.with(|state, _| state.push(value, false))?;
        wake(waker);
        Ok(())
    }

    /// Closes the channel for all senders. The receiver gets what is in it, and then `None`; sends
    /// that wait get their values back.
    pub fn close(&self) {
        self.channel.close();
    }

    /// Whether the channel is closed, from either side.
    pub fn is_closed(&self) -> bool {
        self.channel.gate.with(|state, _| state.closed)
    }
}

impl<T, const N: usize> Clone for Sender<'_, T, N> {
    fn clone(&self) -> Self {
        self.channel.gate.with(|state, _| state.senders += 1);
        Self { channel: self.channel }
    }
}

impl<T, const N: usize> Drop for Sender<'_, T, N> {
    fn drop(&mut self) {
        // The last one: nobody waits in the line, but one that was forgotten.
        wake(self.channel.gate.with(|state, _| {
            state.senders -= 1;
            if state.senders > 0 {
                return None;
            }
            let waker = state.close();
            state.renew();
            waker
        }));
    }
}

/// Receives from a [`Channel`]. Its drop closes it, and drops what is in it.
pub struct Receiver<'a, T, const N: usize> {
    channel: &'a Channel<T, N>,
}

impl<'a, T, const N: usize> Receiver<'a, T, N> {
    /// The next value; waits while there is none. `None` once the channel is closed and empty.
    ///
    /// Cancel safety: nothing is lost; a value leaves the channel only to be returned.
    pub fn recv(&mut self) -> impl Future<Output = Option<T>> {
        Recv::new(&self.channel.gate)
    }

    /// The next value, if there is one.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let (value, waker) = self.channel.gate.with(State::pop)?;
        wake(waker);
        Ok(value)
    }

    /// Closes the channel: nothing more is sent, and what is in it can still be received.
    pub fn close(&mut self) {
        self.channel.close();
    }

    /// How many values are there now.
    pub fn len(&self) -> usize {
        self.channel.gate.with(|state, _| state.values.len())
    }

    /// Whether there is no value now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T, const N: usize> Drop for Receiver<'_, T, N> {
    fn drop(&mut self) {
        /// The end, on an unwind too.
        struct Leave<'a, T, const N: usize>(&'a Channel<T, N>);
        impl<T, const N: usize> Drop for Leave<'_, T, N> {
            fn drop(&mut self) {
                while let Some(value) = self.0.gate.with(|state, _| state.values.pop_front()) {
                    drop(value);
                }
                self.0.gate.with(|state, _| {
                    state.receiver = Side::Gone;
                    state.renew();
                });
            }
        }
        self.channel.close();
        // The values' drops are user code: where one panics, `leave` sees to the rest.
        let leave = Leave(self.channel);
        while let Some(value) = self.channel.gate.with(|state, _| state.values.pop_front()) {
            drop(value);
        }
        drop(leave);
    }
}

impl<T, const N: usize> fmt::Debug for Channel<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, closed) = self.gate.with(|state, _| (state.values.len(), state.closed));
        let end = if closed { ", closed" } else { "" };
        write!(f, "Channel({len} of {N}{end})")
    }
}

impl<T, const N: usize> fmt::Debug for Sender<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender to {:?}", self.channel)
    }
}

impl<T, const N: usize> fmt::Debug for Receiver<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver of {:?}", self.channel)
    }
}
