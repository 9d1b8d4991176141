//! Relaying between two connections: every byte arrives, in order, ends and resets are carried over,
//! and no peer, however slow, takes the buffers of the others.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kio::net::{
    OwnedRecvHalf, OwnedSendHalf, RecvHalf, RelayError, RelayOptions, Relayed, SendHalf, Stream,
    TcpStream, relay, relay_one_way, relay_one_way_with, relay_with,
};
use kio::{Buf, BufMut, Core, Error, StartError, Worker};
use kio_tests::{HANG, client, pattern, poll_then_drop, scaled};

type Peer = std::net::TcpStream;

kio::pool! {
    struct Net;
    entry = idle,
    spawn = 64 x 4 KiB,
    calls = 4 x 16 KiB,
    conns = 64,
    buffers = 256 x 16 KiB,
    outbox = 32,
}

kio::pool! {
    struct Tiny;
    entry = idle,
    spawn = 16 x 4 KiB,
    calls = 4 x 16 KiB,
    conns = 32,
    buffers = 4 x 4 KiB,
    stall = 30 s,
}

kio::pool! {
    struct Two;
    entry = idle,
    spawn = 16 x 4 KiB,
    calls = 4 x 16 KiB,
    conns = 32,
    buffers = 2 x 4 KiB,
    stall = 30 s,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// Runs `body` on a worker of a pool, which must end with nothing held.
macro_rules! on {
    ($pool:ty, $body:expr) => {{
        let pool = <$pool>::start_when_free().expect("the last run held nothing");
        let value = pool.on(0, $body).expect("the body ends");
        let stats = pool.stats().next().expect("a worker");
        pool.stop();
        pool.join().expect("a clean end");
        if let Err(Error::Start(StartError::Retired(held))) = <$pool>::start().map(drop) {
            panic!("the run ended with {held:?}");
        }
        (value, stats)
    }};
}

/// A server of one connection, for a relay to connect to.
struct Server(TcpListener);

impl Server {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    fn accept(&self) -> Peer {
        let (peer, _) = self.0.accept().expect("the relay connects");
        peer.set_read_timeout(Some(HANG)).expect("a time above zero");
        peer.set_write_timeout(Some(HANG)).expect("a time above zero");
        peer.set_nodelay(true).expect("a TCP socket");
        peer
    }
}

/// Runs `via` with both of its connections on a worker of the pool, `near` with the first one's
/// other end, and `far` with the second one's.
macro_rules! between {
    ($pool:ty, $near:expr, $far:expr, $via:expr) => {{
        let server = Server::new();
        let upstream = server.addr();
        let (tell, told) = mpsc::channel();
        let via = $via;
        thread::scope(|scope| {
            let near = scope.spawn(move || ($near)(client(told.recv().expect("it listens"))));
            let far = scope.spawn(move || ($far)(server.accept()));
            let (value, _) = on!($pool, async move |worker: Worker<$pool>| {
                let mut listener = worker.listen("127.0.0.1:0").await.expect("a free port");
                tell.send(listener.local_addr().expect("bound")).expect("the peer lives");
                let a = listener.accept().await.expect("the peer connects");
                drop(listener);
                let b = worker.connect(upstream).await.expect("the server listens");
                via(a, b).await
            });
            let near = near.join().expect("the near peer is content");
            let far = far.join().expect("the far peer is content");
            (near, far, value)
        })
    }};
}

/// Writes on a thread of its own and ends its side, while it reads to the end.
fn exchange(mut peer: Peer, bytes: &[u8]) -> Vec<u8> {
    let mut writer = peer.try_clone().expect("another handle");
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(bytes).expect("the relay reads");
            writer.shutdown(Shutdown::Write).expect("a connection");
        });
        let mut all = Vec::new();
        peer.read_to_end(&mut all).expect("an orderly end");
        all
    })
}

/// Makes what the system buffers for a peer small, so that one that waits is felt soon.
fn shallow(peer: Peer) -> Peer {
    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
    set_socket_recv_buffer_size(&peer, 128 << 10).expect("a TCP socket");
    set_socket_send_buffer_size(&peer, 128 << 10).expect("a TCP socket");
    peer
}

/// Sends back what comes.
fn echo(mut peer: Peer) {
    let mut bytes = [0; 65_536];
    loop {
        match peer.read(&mut bytes).expect("the relay lives") {
            0 => break,
            n => peer.write_all(&bytes[..n]).expect("the relay reads"),
        }
    }
    peer.shutdown(Shutdown::Write).expect("a connection");
}

/// Makes the peer's close a reset.
fn reset(peer: Peer) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).expect("a TCP socket");
}

async fn relay_both(mut a: TcpStream, mut b: TcpStream) -> Result<Relayed, RelayError> {
    relay(&mut a, &mut b).await
}

// ---- bytes ----

#[test]
fn both_ways_carry_every_byte_and_are_counted() {
    let there = pattern(scaled(8 << 20));
    let back: Vec<u8> = pattern(scaled(8 << 20) + 77).into_iter().rev().collect();
    let (sent_back, sent_there) = (back.clone(), there.clone());
    let (near, far, relayed) =
        between!(Net, |peer| exchange(peer, &there), |peer| exchange(peer, &back), async |a, b| {
            relay_both(a, b).await
        });
    assert!(near == sent_back && far == sent_there, "bytes were lost or swapped");
    let relayed = relayed.expect("both ended");
    assert_eq!(relayed.a_to_b, sent_there.len() as u64);
    assert_eq!(relayed.b_to_a, sent_back.len() as u64);
}

#[test]
fn what_was_pushed_before_goes_first() {
    let (near, far, relayed) = between!(
        Net,
        |peer| exchange(peer, b"and then the rest"),
        |peer: Peer| exchange(peer, b"reply"),
        async |mut a: TcpStream, mut b: TcpStream| {
            b.push("a header, ").await.expect("there is room");
            a.push("a greeting, ").await.expect("there is room");
            relay(&mut a, &mut b).await
        }
    );
    assert_eq!(far, b"a header, and then the rest");
    assert_eq!(near, b"a greeting, reply");
    let relayed = relayed.expect("both ended");
    assert_eq!(relayed, Relayed { a_to_b: 17, b_to_a: 5 }, "what the relay moved itself");
}

#[test]
fn a_header_that_was_pushed_goes_out_though_nothing_follows() {
    let (_, far, relayed) = between!(
        Net,
        |mut peer: Peer| peer.read_to_end(&mut Vec::new()).expect("an orderly end"),
        |mut peer: Peer| {
            let mut header = [0; 6];
            peer.read_exact(&mut header).expect("it is flushed");
            peer.shutdown(Shutdown::Write).expect("a connection");
            header
        },
        async |mut a: TcpStream, mut b: TcpStream| {
            b.push("header").await.expect("there is room");
            let (mut from_a, mut to_a) = a.split();
            let (mut from_b, mut to_b) = b.split();
            let _ = poll_then_drop(1, relay_one_way(&mut from_a, &mut to_b)).await;
            relay_one_way(&mut from_b, &mut to_a).await
        }
    );
    assert_eq!(&far, b"header");
    assert_eq!(relayed, Ok(0));
}

#[test]
fn segments_of_one_byte_arrive_whole() {
    let bytes = pattern(scaled(20_000));
    let all = bytes.clone();
    let (near, (), relayed) = between!(
        Net,
        |peer: Peer| {
            let mut writer = peer.try_clone().expect("another handle");
            let mut peer = peer;
            thread::scope(|scope| {
                scope.spawn(move || {
                    for byte in &bytes {
                        writer.write_all(&[*byte]).expect("the relay reads");
                    }
                    writer.shutdown(Shutdown::Write).expect("a connection");
                });
                let mut back = Vec::new();
                peer.read_to_end(&mut back).expect("an orderly end");
                back
            })
        },
        echo,
        async |a, b| relay_both(a, b).await
    );
    assert!(near == all, "bytes were lost or swapped");
    assert_eq!(relayed.expect("both ended").b_to_a, all.len() as u64);
}

#[test]
fn a_window_of_one_buffer_is_enough() {
    let bytes = pattern(scaled(1 << 20));
    let all = bytes.clone();
    let (near, (), relayed) = between!(
        Net,
        |peer| exchange(peer, &bytes),
        echo,
        async |mut a: TcpStream, mut b: TcpStream| {
            relay_with(&mut a, &mut b, RelayOptions::new().window(1)).await
        }
    );
    assert!(near == all, "bytes were lost or swapped");
    assert!(relayed.is_ok());
}

#[test]
fn one_way_relays_by_owned_halves() {
    let there = pattern(scaled(1 << 20));
    let sent = there.clone();
    let (near, far, relayed) = between!(
        Net,
        |peer| exchange(peer, &there),
        |peer: Peer| exchange(peer, b""),
        async |a: TcpStream, b: TcpStream| {
            let (mut from, to_a): (OwnedRecvHalf, OwnedSendHalf) = a.into_split();
            let (_, mut to) = b.into_split();
            drop(to_a);
            relay_one_way(&mut from, &mut to).await
        }
    );
    assert!(far == sent, "bytes were lost or swapped");
    assert_eq!((near.len(), relayed), (0, Ok(sent.len() as u64)));
}

#[test]
fn a_stream_relayed_to_itself_is_an_echo() {
    let bytes = pattern(scaled(2 << 20));
    let all = bytes.clone();
    let (near, (), relayed) = between!(
        Net,
        |peer| exchange(peer, &bytes),
        |_| (),
        async |mut a: TcpStream, b: TcpStream| {
            drop(b);
            let (mut from, mut to) = a.split();
            relay_one_way(&mut from, &mut to).await
        }
    );
    assert!(near == all, "bytes were lost or swapped");
    assert_eq!(relayed, Ok(all.len() as u64));
}

/// A stream that is not TCP as far as anybody can see.
struct Wrapped(TcpStream);
struct WrappedRecv<'a>(kio::net::TcpRecvHalf<'a>);
struct WrappedSend<'a>(kio::net::TcpSendHalf<'a>);

macro_rules! wraps {
    ($type:ty, $trait:ident { $($body:tt)* }) => {
        impl $trait for $type { $($body)* }
    };
}
macro_rules! receives {
    ($type:ty) => {
        wraps! { $type, RecvHalf {
            fn core(&self) -> Core { RecvHalf::core(&self.0) }
            async fn recv(&mut self) -> kio::Result<Option<Buf>> { self.0.recv().await }
            async fn recv_idle(&mut self) -> kio::Result<Option<Buf>> { self.0.recv_idle().await }
            async fn recv_into(&mut self, into: &mut BufMut) -> kio::Result<usize> {
                self.0.recv_into(into).await
            }
            async fn recv_idle_into(&mut self, into: &mut BufMut) -> kio::Result<usize> {
                self.0.recv_idle_into(into).await
            }
        } }
    };
}
macro_rules! sends { ($type:ty) => { wraps! { $type, SendHalf {
    fn core(&self) -> Core { SendHalf::core(&self.0) }
    async fn push(&mut self, out: impl Into<kio::net::Out>) -> kio::Result<()> {
        self.0.push(out).await
    }
    fn try_push(&mut self, out: impl Into<kio::net::Out>) -> Result<(), kio::net::Out> {
        self.0.try_push(out)
    }
    async fn push_copy(&mut self, bytes: &[u8]) -> kio::Result<()> { self.0.push_copy(bytes).await }
    async fn flush(&mut self) -> kio::Result<()> { self.0.flush().await }
    async fn send(&mut self, out: impl Into<kio::net::Out>) -> kio::Result<()> {
        self.0.send(out).await
    }
    async fn send_copy(&mut self, bytes: &[u8]) -> kio::Result<()> { self.0.send_copy(bytes).await }
    async fn shutdown(&mut self) -> kio::Result<()> { self.0.shutdown().await }
} } } }
receives!(Wrapped);
receives!(WrappedRecv<'_>);
sends!(Wrapped);
sends!(WrappedSend<'_>);

impl Stream for Wrapped {
    type Recv<'a> = WrappedRecv<'a>;
    type Send<'a> = WrappedSend<'a>;
    fn split(&mut self) -> (WrappedRecv<'_>, WrappedSend<'_>) {
        let (recv, send) = self.0.split();
        (WrappedRecv(recv), WrappedSend(send))
    }
    async fn close(self) -> kio::Result<()> {
        self.0.close().await
    }
}

#[test]
fn a_stream_of_another_kind_relays_with_tcp() {
    let there = pattern(scaled(4 << 20));
    let back: Vec<u8> = pattern(scaled(4 << 20) + 1).into_iter().rev().collect();
    let (sent_back, sent_there) = (back.clone(), there.clone());
    let (near, far, relayed) = between!(
        Net,
        |peer| exchange(peer, &there),
        |peer| exchange(peer, &back),
        async |a: TcpStream, mut b: TcpStream| relay(&mut Wrapped(a), &mut b).await
    );
    assert!(near == sent_back && far == sent_there, "bytes were lost or swapped");
    assert_eq!(relayed.expect("both ended").a_to_b, sent_there.len() as u64);
}

// ---- ends, resets, times ----

#[test]
fn the_end_of_one_side_is_carried_over_and_the_other_goes_on() {
    let (near, (), relayed) = between!(
        Net,
        |peer: Peer| exchange(peer, b"question"),
        |mut peer: Peer| {
            let mut question = Vec::new();
            peer.read_to_end(&mut question).expect("the end is carried over");
            assert_eq!(question, b"question");
            peer.write_all(b"an answer, long after").expect("the other way is open");
        },
        async |a, b| relay_both(a, b).await
    );
    assert_eq!(near, b"an answer, long after");
    assert!(relayed.is_ok());
}

#[test]
fn a_reset_of_either_side_ends_the_relay() {
    for resets_near in [true, false] {
        let quits = |mut peer: Peer| {
            peer.write_all(b"half a").expect("the relay reads");
            peer.read_exact(&mut [0; 4]).expect("the other speaks");
            reset(peer);
        };
        let stays = |mut peer: Peer| {
            peer.write_all(b"some").expect("the relay reads");
            let mut all = Vec::new();
            let _ = peer.read_to_end(&mut all);
            assert_eq!(all, b"half a");
        };
        let via = async |a, b| relay_both(a, b).await;
        let ((), (), relayed) = match resets_near {
            true => between!(Net, quits, stays, via),
            false => between!(Net, stays, quits, via),
        };
        let failed = relayed.expect_err("a reset is no end");
        assert!(failed.error.is_routine(), "{failed}");
        let Relayed { a_to_b, b_to_a } = failed.relayed;
        assert_eq!((a_to_b.min(b_to_a), a_to_b.max(b_to_a)), (4, 6));
    }
}

#[test]
fn a_reset_in_the_middle_of_bulk_leaves_nothing_held() {
    for _ in 0..scaled(20) {
        let ((), (), relayed) = between!(
            Net,
            |mut peer: Peer| {
                let bytes = [7; 100_000];
                while peer.write_all(&bytes).is_ok() {}
            },
            |mut peer: Peer| {
                peer.read_exact(&mut [0; 300_000]).expect("bulk comes");
                reset(peer);
            },
            async |a, b| relay_both(a, b).await
        );
        assert!(relayed.expect_err("a reset is no end").relayed.a_to_b >= 300_000);
    }
}

#[test]
fn what_a_peer_said_before_it_reset_is_delivered() {
    // It refuses early, as HTTP servers do a large upload, and closes with the upload unread: a reset
    // right behind its words, and in the middle of what the relay sends it.
    for _ in 0..scaled(10) {
        let (near, (), relayed) = between!(
            Net,
            |mut peer: Peer| {
                let mut all = Vec::new();
                let bytes = [7; 100_000];
                while peer.write_all(&bytes).is_ok() {}
                let _ = peer.read_to_end(&mut all);
                all
            },
            |mut peer: Peer| {
                peer.read_exact(&mut [0; 100_000]).expect("the upload begins");
                peer.write_all(b"too large").expect("the relay reads");
            },
            async |a, b| relay_both(a, b).await
        );
        assert_eq!(near, b"too large", "{relayed:?}");
        let failed = relayed.expect_err("a reset is no end");
        assert_eq!(failed.relayed.b_to_a, 9, "{failed}");
    }
}

#[test]
fn a_quiet_relay_ends_after_its_idle_time() {
    let quiet = |mut peer: Peer| peer.read_to_end(&mut Vec::new()).map(drop).unwrap_or(());
    let ((), (), relayed) =
        between!(Net, quiet, quiet, async |mut a: TcpStream, mut b: TcpStream| {
            let options = RelayOptions::new().idle_timeout(Duration::from_millis(60));
            relay_with(&mut a, &mut b, options).await
        });
    assert_eq!(relayed.expect_err("nobody spoke").error, Error::TimedOut);
}

#[test]
fn a_byte_in_either_direction_keeps_a_relay_alive() {
    let steps = scaled(40) as u64;
    for wrapped in [false, true] {
        let ((), near, relayed) = between!(
            Net,
            |mut peer: Peer| {
                for _ in 0..steps {
                    peer.write_all(b"x").expect("the relay lives");
                    thread::sleep(Duration::from_millis(60));
                }
            },
            |mut peer: Peer| {
                let mut all = Vec::new();
                let _ = peer.read_to_end(&mut all);
                all.len() as u64
            },
            async move |mut a: TcpStream, b: TcpStream| {
                let options = RelayOptions::new().idle_timeout(Duration::from_secs(2));
                match wrapped {
                    true => relay_with(&mut a, &mut Wrapped(b), options).await,
                    false => relay_with(&mut a, &mut { b }, options).await,
                }
            }
        );
        let relayed = relayed.unwrap_or_else(|failed| failed.relayed);
        assert_eq!((near, relayed.a_to_b), (steps, steps), "longer in all than it may be idle");
    }
}

#[test]
fn the_total_time_ends_a_busy_relay() {
    let talks = |mut peer: Peer| {
        let bytes = [7; 10_000];
        while peer.write_all(&bytes).is_ok() {}
    };
    let reads = |mut peer: Peer| {
        let mut bytes = [0; 65_536];
        while peer.read(&mut bytes).is_ok_and(|n| n > 0) {}
    };
    for one_way in [false, true] {
        let ((), (), error) =
            between!(Net, talks, reads, async move |mut a: TcpStream, mut b: TcpStream| {
                let options = RelayOptions::new().total_timeout(Duration::from_millis(80));
                match one_way {
                    true => relay_one_way_with(&mut a, &mut b, options).await.map(drop),
                    false => relay_with(&mut a, &mut b, options).await.map(drop),
                }
            });
        assert_eq!(error.expect_err("it would last for ever").error, Error::TimedOut);
    }
}

// ---- giving up ----

#[test]
fn a_dropped_relay_loses_no_bytes() {
    let bytes = pattern(scaled(4 << 20));
    let all = bytes.clone();
    let (near, (), dropped) = between!(
        Net,
        |peer| exchange(peer, &bytes),
        echo,
        async |mut a: TcpStream, mut b: TcpStream| {
            let mut dropped = 0;
            for polls in (1..40).cycle() {
                match poll_then_drop(polls, relay(&mut a, &mut b)).await {
                    Some(ended) => {
                        ended.expect("an orderly end");
                        break;
                    }
                    None => dropped += 1,
                }
            }
            dropped
        }
    );
    assert!(near == all, "bytes were lost or swapped");
    assert!(dropped > 0, "it was dropped {dropped} times");
}

#[test]
fn a_forgotten_relay_leaves_its_streams_usable() {
    let (near, (), ()) = between!(
        Net,
        |peer| exchange(peer, b"hello"),
        echo,
        async |mut a: TcpStream, mut b: TcpStream| {
            let mut relaying = Box::pin(relay(&mut a, &mut b));
            let _ = poll_then_drop(2, relaying.as_mut()).await;
            std::mem::forget(relaying);
            relay(&mut a, &mut b).await.expect("both end");
        }
    );
    assert_eq!(near, b"hello");
}

#[test]
fn a_stream_is_read_on_after_a_relay_that_ran_out_of_time() {
    let (_, far, rest) = between!(
        Net,
        |mut peer: Peer| {
            peer.write_all(b"first").expect("the relay reads");
            // The relay is over when this comes.
            peer.read_exact(&mut [0; 2]).expect("the stream lives");
            peer.write_all(b"second").expect("the stream lives");
        },
        |mut peer: Peer| {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).expect("an orderly end");
            all
        },
        async |mut a: TcpStream, mut b: TcpStream| {
            let options = RelayOptions::new().total_timeout(Duration::from_millis(50));
            loop {
                let timed_out = relay_with(&mut a, &mut b, options).await;
                let failed = timed_out.expect_err("nobody ends");
                assert_eq!(failed.error, Error::TimedOut);
                if failed.relayed.a_to_b > 0 {
                    break;
                }
            }
            a.send("go").await.expect("the peer reads");
            let mut rest = Vec::new();
            while let Some(data) = a.recv().await.expect("an orderly end") {
                rest.extend_from_slice(&data);
            }
            rest
        }
    );
    assert_eq!((&far[..], &rest[..]), (&b"first"[..], &b"second"[..]));
}

// ---- many, and few buffers ----

/// Relays `streams` connections at once from the clients of a listener to `upstream`.
async fn relay_many(
    core: Core,
    streams: usize,
    upstream: SocketAddr,
    tell: mpsc::Sender<SocketAddr>,
) {
    let mut listener = core.listen("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let mut handles = Vec::new();
    for _ in 0..streams {
        tell.send(addr).expect("the clients live");
    }
    for _ in 0..streams {
        let mut a = listener.accept().await.expect("clients connect");
        let task = core.spawn(move || async move {
            let mut b = core.connect(upstream).await.expect("the server listens");
            relay(&mut a, &mut b).await.map(drop).map_err(|failed| failed.error)
        });
        handles.push(task.expect("there is room"));
    }
    for handle in handles {
        handle.await.expect("it does not panic").expect("both ended");
    }
}

macro_rules! echo_many {
    ($pool:ty, $streams:expr, $bytes:expr) => {{
        let bytes = pattern($bytes);
        let server = Server::new();
        let upstream = server.addr();
        let (tell, told) = mpsc::channel::<SocketAddr>();
        let (_, stats) = thread::scope(|scope| {
            scope.spawn(move || {
                thread::scope(|scope| {
                    for _ in 0..$streams {
                        let peer = shallow(server.accept());
                        scope.spawn(move || echo(peer));
                    }
                });
            });
            let bytes = &bytes;
            scope.spawn(move || {
                thread::scope(|scope| {
                    for _ in 0..$streams {
                        let peer = client(told.recv().expect("it listens"));
                        scope.spawn(move || {
                            assert!(exchange(peer, bytes) == *bytes, "bytes were lost or swapped")
                        });
                    }
                });
            });
            on!($pool, async move |worker: Worker<$pool>| {
                relay_many(worker.core(), $streams, upstream, tell).await
            })
        });
        assert_eq!(stats.stalled, 0, "somebody was reset for buffers: {stats:?}");
        assert_eq!(stats.buffers, 0, "buffers are still held");
    }};
}

#[test]
fn many_streams_share_the_buffers() {
    echo_many!(Net, 24, scaled(2 << 20));
}

/// Each server writes back what it reads and reads no more while it cannot write: were all buffers
/// on their way there, none could come back.
#[test]
fn with_four_buffers_neither_direction_starves() {
    echo_many!(Tiny, 8, scaled(12 << 20));
}

#[test]
fn with_two_buffers_neither_direction_starves() {
    echo_many!(Two, 6, scaled(12 << 20));
}

/// Peers that read nothing take all that the ring has, before a connection comes that is to be served.
/// `far` are the servers, else the clients.
fn idlers_hold_all_buffers(far: bool) {
    const IDLERS: usize = 6;
    let server = Server::new();
    let upstream = server.addr();
    let (tell, told) = mpsc::channel::<SocketAddr>();
    let (filled, all_filled) = mpsc::channel::<()>();
    let bytes = pattern(scaled(1 << 20));
    let flood = |mut peer: Peer, filled: mpsc::Sender<()>| {
        // Until nothing is taken any more: the relay holds what it may, and reads no more.
        peer.set_write_timeout(Some(Duration::from_millis(300))).expect("a time above zero");
        while peer.write_all(&[7; 65_536]).is_ok() {}
        filled.send(()).expect("the test waits");
        peer
    };
    let (_, stats) = thread::scope(|scope| {
        let (bytes, server) = (&bytes, &server);
        scope.spawn(move || {
            let addr = told.recv().expect("it listens");
            let pairs: Vec<_> = (0..IDLERS).map(|_| (client(addr), server.accept())).collect();
            let floods: Vec<_> = pairs
                .into_iter()
                .map(|(near, far_end)| {
                    let (floods, idles) = if far { (near, far_end) } else { (far_end, near) };
                    let filled = filled.clone();
                    (scope.spawn(move || flood(floods, filled)), idles)
                })
                .collect();
            for _ in 0..IDLERS {
                all_filled.recv().expect("each is filled");
            }
            let quick = client(addr);
            let echoes = server.accept();
            scope.spawn(move || echo(echoes));
            assert!(exchange(quick, bytes) == *bytes, "bytes were lost or swapped");
            drop(floods);
        });
        on!(Tiny, async move |worker: Worker<Tiny>| {
            let core = worker.core();
            let mut listener = core.listen("127.0.0.1:0").await.expect("a free port");
            tell.send(listener.local_addr().expect("bound")).expect("the clients live");
            let mut last = None;
            for _ in 0..=IDLERS {
                let mut a = listener.accept().await.expect("clients connect");
                let mut b = core.connect(upstream).await.expect("the server listens");
                let task = core.spawn(move || async move {
                    relay(&mut a, &mut b).await.map_err(|failed| failed.error)
                });
                last = Some(task.expect("there is room"));
            }
            let quick = last.expect("the last one").await.expect("it does not panic");
            quick.expect("both of its sides ended");
        })
    });
    assert_eq!(stats.stalled, 0, "nobody had to be reset for it");
}

#[test]
fn servers_that_read_nothing_stop_nobody_else() {
    idlers_hold_all_buffers(true);
}

#[test]
fn clients_that_read_nothing_stop_nobody_else() {
    idlers_hold_all_buffers(false);
}

#[test]
fn one_slow_reader_does_not_take_the_pool() {
    let server = Server::new();
    let upstream = server.addr();
    let (tell, told) = mpsc::channel::<SocketAddr>();
    let bytes = pattern(scaled(4 << 20));
    let held = thread::scope(|scope| {
        // Connection by connection; the first sends for ever to a client that does not read.
        scope.spawn(move || {
            let flood = server.accept();
            let quick = server.accept();
            thread::scope(|scope| {
                scope.spawn(move || {
                    let mut flood = flood;
                    while flood.write_all(&[7; 65_536]).is_ok() {}
                });
                echo(quick);
            });
        });
        scope.spawn(move || {
            let addr = told.recv().expect("it listens");
            let slow = client(addr);
            told.recv().expect("the first is connected");
            let quick = client(addr);
            assert!(exchange(quick, &bytes) == bytes, "bytes were lost or swapped");
            drop(slow);
        });
        let (held, _) = on!(Net, async move |worker: Worker<Net>| {
            let core = worker.core();
            let mut listener = core.listen("127.0.0.1:0").await.expect("a free port");
            tell.send(listener.local_addr().expect("bound")).expect("the clients live");
            let mut tasks = Vec::new();
            for _ in 0..2 {
                let mut a = listener.accept().await.expect("clients connect");
                let mut b = core.connect(upstream).await.expect("the server listens");
                let _ = tell.send(listener.local_addr().expect("bound"));
                let task = core.spawn(move || async move {
                    relay_with(&mut a, &mut b, RelayOptions::new().window(8))
                        .await
                        .map_err(|failed| failed.error)
                });
                tasks.push(task.expect("there is room"));
            }
            let quick = tasks.pop().expect("two");
            quick.await.expect("it does not panic").expect("both ended");
            let held = core.stats().buffers;
            let slow = tasks.pop().expect("two");
            slow.await.expect("it does not panic").expect_err("its client left");
            held
        });
        held
    });
    // Before 6.18 the kernel knows no window: one enter may fill all that lies in the ring.
    let capped = kio::probe().expect("there is a ring").recv_cap;
    assert!(held <= 16 || !capped, "the slow one held {held} buffers of a window of 8");
}

#[test]
fn relays_are_dropped_with_their_pool() {
    let server = Server::new();
    let upstream = server.addr();
    let ready = Cell::new(None);
    let pool = Net::start_when_free().expect("the last run held nothing");
    let (tell, told) = mpsc::channel();
    pool.on(0, async move |worker: Worker<Net>| {
        let core = worker.core();
        let spawned = core.spawn(move || async move {
            let mut listener = core.listen("127.0.0.1:0").await.expect("a free port");
            tell.send(listener.local_addr().expect("bound")).expect("the peer lives");
            let mut a = listener.accept().await.expect("the peer connects");
            let mut b = core.connect(upstream).await.expect("the server listens");
            let _ = relay(&mut a, &mut b).await;
        });
        spawned.map(drop).expect("there is room");
    })
    .expect("it runs");
    let mut near = client(told.recv().expect("it listens"));
    let mut far = server.accept();
    near.write_all(b"x").expect("it is open");
    far.read_exact(&mut [0]).expect("it is relayed");
    ready.set(Some(()));
    pool.stop();
    // A second signal's worth: the drain is not waited for.
    drop((near, far));
    pool.join().expect("a clean end");
}
