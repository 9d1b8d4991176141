//! What a channel answers when it does not do what was asked.

use core::fmt;

/// The channel is closed; the value comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// Why a value was not sent; it comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, or others wait for what there is.
    Full(T),
    /// The channel is closed.
    Closed(T),
}

/// Why no value was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    /// There is none now.
    Empty,
    /// There is none and none will come.
    Closed,
}

const CLOSED: &str = "the channel is closed";
const FULL: &str = "the channel is full: `send` waits for room";
const EMPTY: &str = "the channel is empty: `recv` waits for a value";

impl<T> SendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Full(_) => FULL,
            Self::Closed(_) => CLOSED,
        }
    }
}

impl TryRecvError {
    fn text(self) -> &'static str {
        match self {
            Self::Empty => EMPTY,
            Self::Closed => CLOSED,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED)
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<T> core::error::Error for SendError<T> {}
impl<T> core::error::Error for TrySendError<T> {}
impl core::error::Error for TryRecvError {}

impl<T> From<SendError<T>> for crate::Error {
    fn from(_: SendError<T>) -> Self {
        Self::Other(CLOSED)
    }
}

impl<T> From<TrySendError<T>> for crate::Error {
    fn from(error: TrySendError<T>) -> Self {
        Self::Other(error.text())
    }
}

impl From<TryRecvError> for crate::Error {
    fn from(error: TryRecvError) -> Self {
        Self::Other(error.text())
    }
}
