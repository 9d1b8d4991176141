//! What kio's tests share: counts that shrink on slow machines, clients that cannot hang for ever,
//! futures that are given up after so many polls, and tests that run again in a process of their own.

#[cfg(feature = "tls")]
pub mod tls;

use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::pin::{Pin, pin};
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a client waits before the test fails: no claim about speed, only an end to a hang.
pub const HANG: Duration = Duration::from_secs(60);

/// What tells a test that it runs as the child of itself.
const CHILD: &str = "KIO_TEST_CHILD";

/// `n`, or less of it where the environment's `KIO_TEST_SCALE` says that the machine is slow; never
/// below 1.
pub fn scaled(n: usize) -> usize {
    let scale = std::env::var("KIO_TEST_SCALE").ok();
    let scale = scale.and_then(|text| text.parse().ok()).unwrap_or(1);
    (n / usize::max(scale, 1)).max(1)
}

/// A client of the address, whose reads and writes fail after [`HANG`].
pub fn client(addr: SocketAddr) -> TcpStream {
    let client = TcpStream::connect_timeout(&addr, HANG).expect("the pool listens");
    client.set_read_timeout(Some(HANG)).expect("a time above zero");
    client.set_write_timeout(Some(HANG)).expect("a time above zero");
    client.set_nodelay(true).expect("a TCP socket");
    client
}

/// `len` bytes in an order that shows what is lost, doubled or swapped.
pub fn pattern(len: usize) -> Vec<u8> {
    let byte = |i: usize| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    (0..len).map(byte).collect()
}

/// Polls `future` at most `polls` times and then drops it: its value, if it had one by then.
pub async fn poll_then_drop<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let future = pin!(future);
    PollAtMost { future, left: polls }.await
}

/// Lets the other tasks of the worker have their turn.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

struct PollAtMost<'a, F> {
    future: Pin<&'a mut F>,
    left: usize,
}

impl<F: Future> Future for PollAtMost<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            // Without a further event there would be no further poll: given up at once.
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Whether this process was started by [`again`]. One that was ends when its parent's test does.
pub fn is_child() -> bool {
    let child = std::env::var_os(CHILD).is_some();
    if child {
        let kill = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(kill).expect("a signal there is");
    }
    child
}

/// Starts the test of that name once more, alone, in a process of its own where [`is_child`] is
/// true. Its standard input and output are pipes; it speaks to its parent by lines that the test
/// harness does not write.
pub fn again(test: &str) -> Child {
    let program = std::env::current_exe().expect("a test is a program");
    Command::new(program)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .args(["--test-threads", "1"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test's own program runs")
}
