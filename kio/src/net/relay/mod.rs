//! Relaying: bytes from one stream to another, both ways or one, until their ends.
//!
//! Between two TCP streams of a worker the received buffers themselves are handed over and sent
//! gathered (`fast`); any other pairing is relayed by `recv`, `push` and `flush` (`generic`), which
//! copies nothing either. Here is what both share: the options, the counts and the error.

mod fast;
mod generic;

use core::fmt;
use core::time::Duration;

use super::{RecvHalf, SendHalf, Stream};
use crate::error::Error;
use crate::time::Instant;

/// How to relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RelayOptions {
    window: u16,
    idle: Option<Duration>,
    total: Option<Duration>,
}

impl RelayOptions {
    /// The defaults: as many buffers a direction as the declared `outbox` has entries, and no
    /// timeout.
    pub const fn new() -> Self {
        Self { window: 0, idle: None, total: None }
    }

    /// Buffers that a direction may hold, received and not sent: a peer that does not read stops its
    /// sender at this. At least 1, and at most the declared `outbox`; bulk transfers want 32 and more.
    /// Streams other than TCP have the declared `window` and `outbox` instead.
    pub const fn window(mut self, buffers: u16) -> Self {
        self.window = buffers;
        self
    }

    /// Ends with `TimedOut` after so long without a byte in either direction. A byte that is sent
    /// counts when the system has taken its whole send, which is at most a window.
    pub const fn idle_timeout(mut self, span: Duration) -> Self {
        self.idle = Some(span);
        self
    }

    /// Ends with `TimedOut` after so long in any case.
    pub const fn total_timeout(mut self, span: Duration) -> Self {
        self.total = Some(span);
        self
    }
}

/// Bytes that were handed on. Where a relay failed, the last window of them may not have reached the
/// system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Relayed {
    /// From the first stream to the second.
    pub a_to_b: u64,
    /// From the second stream to the first.
    pub b_to_a: u64,
}

/// Why a relay ended before both streams had, and what it had handed on by then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RelayError {
    /// The cause: a reset, `TimedOut` past a timeout, `Stalled`, `Stopped`.
    pub error: Error,
    /// What was handed on.
    pub relayed: Relayed,
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Relayed { a_to_b, b_to_a } = self.relayed;
        write!(f, "the relay ended after {a_to_b} bytes there and {b_to_a} back: {}", self.error)
    }
}

impl fmt::Debug for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for RelayError {}

impl From<RelayError> for Error {
    fn from(failed: RelayError) -> Self {
        failed.error
    }
}

/// Moves bytes both ways until both streams have ended; the end of one side is carried over to the
/// other (half-close). What was pushed to either stream before goes out first.
///
/// Buffers of the store are handed over: nothing is copied. Each direction holds at most its window
/// of them, so one slow peer stops its sender and not the others. Where slow peers hold all buffers,
/// others between TCP streams go on with those kept for tasks (`reserve`), one each, as long as what
/// they receive can be sent at once.
///
/// When one peer is gone (a reset), what it had sent is still delivered to the other, and then the
/// relay ends with that error. Close both streams after any error.
///
/// Between TCP streams the streams' own receive and send timeouts do not count: use
/// [`relay_with`] and its timeouts.
///
/// Cancel safety: dropped, bytes that it had handed on go out, as after `push`; what was received
/// and not handed on stays with its stream. Forgotten, it goes on between TCP streams, until one of
/// them is received from.
pub async fn relay<A: Stream, B: Stream>(
    a: &mut A,
    b: &mut B,
) -> core::result::Result<Relayed, RelayError> {
    relay_with(a, b, RelayOptions::new()).await
}

/// As [`relay`], with options.
pub async fn relay_with<A: Stream, B: Stream>(
    a: &mut A,
    b: &mut B,
    options: RelayOptions,
) -> core::result::Result<Relayed, RelayError> {
    if let Some(pair) = fast::pair(a.recv_socket(), b.recv_socket()) {
        return fast::Relay::both(pair, options).await;
    }
    let core = RecvHalf::core(a);
    let (mut from_a, mut to_a) = a.split();
    let (mut from_b, mut to_b) = b.split();
    let counts = generic::Counts::default();
    let there = generic::one_way(&mut from_a, &mut to_b, &counts.there);
    let back = generic::one_way(&mut from_b, &mut to_a, &counts.back);
    generic::both(core, there, back, &counts, options).await
}

/// Moves bytes from one side to another until the end of the stream, which is carried over. Returns
/// how many. Else as [`relay`]. A reset of the side that is sent to is noticed with the next send.
pub async fn relay_one_way<R: RecvHalf, S: SendHalf>(
    from: &mut R,
    to: &mut S,
) -> core::result::Result<u64, RelayError> {
    relay_one_way_with(from, to, RelayOptions::new()).await
}

/// As [`relay_one_way`], with options.
pub async fn relay_one_way_with<R: RecvHalf, S: SendHalf>(
    from: &mut R,
    to: &mut S,
    options: RelayOptions,
) -> core::result::Result<u64, RelayError> {
    let done = if let Some(pair) = fast::pair(from.recv_socket(), to.send_socket()) {
        fast::Relay::one_way(pair, options).await
    } else {
        let core = from.core();
        let counts = generic::Counts::default();
        let there = generic::one_way(from, to, &counts.there);
        let back = core::future::ready(Ok(()));
        generic::both(core, there, back, &counts, options).await
    };
    done.map(|relayed| relayed.a_to_b)
}

/// Why one direction ended before its stream had.
struct Failed {
    error: Error,
    /// Its receiver takes nothing any more: what that one sends may still be delivered.
    sending: bool,
}

impl Failed {
    fn receiving(error: Error) -> Self {
        Self { error, sending: false }
    }

    fn sending(error: Error) -> Self {
        // EPIPE, ECONNRESET, ENOTCONN
        Self { error, sending: matches!(error.errno(), Some(32 | 104 | 107)) }
    }
}

/// How one direction ended.
type Ended = core::result::Result<(), Failed>;

/// When a relay that begins now is over in any case, in nanoseconds.
fn deadline(options: &RelayOptions) -> Option<u64> {
    options.total.map(|span| (Instant::now() + span).0)
}
