//! TCP connections against plain clients of the standard library: what is sent arrives, whole and in
//! order, however the two sides behave and whatever is given up half-way.

use std::cell::RefCell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use kio::net::{ConnectOptions, ListenOptions, RecvHalf, SendHalf, Stream, TcpStream};
use kio::{Core, Error, StartError, Worker};
use kio_tests::{HANG, client, pattern, poll_then_drop, scaled, yield_now};

type Client = std::net::TcpStream;

kio::pool! {
    struct Net;
    entry = idle,
    tasks = { forward: 8 },
    spawn = 64 x 4 KiB,
    calls = 4 x 16 KiB,
    conns = 64,
    buffers = 128 x 16 KiB,
}

kio::pool! {
    struct Tight;
    entry = idle,
    calls = 4 x 16 KiB,
    spawn = 16 x 4 KiB,
    conns = 2,
    buffers = 32 x 4 KiB,
    outbox = 4,
}

kio::pool! {
    struct Echo;
    listen = { "127.0.0.1:0" => echo },
    conns = 32,
    buffers = 128 x 16 KiB,
    drain = 600 s,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

async fn echo(mut conn: TcpStream) -> kio::Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    Ok(())
}

/// Sends on what it receives, in a task of its own.
async fn forward(mut from: kio::net::OwnedRecvHalf, mut to: kio::net::OwnedSendHalf) {
    while let Ok(Some(data)) = from.recv().await {
        if to.send(data).await.is_err() {
            return;
        }
    }
}

/// Runs `body` on a worker of `Net`, which must end with nothing held.
fn on_net<R, F>(body: F) -> R
where
    F: AsyncFnOnce(Worker<Net>) -> R + Send + 'static,
    R: Send + 'static,
{
    let pool = Net::start_when_free().expect("the last run held nothing");
    let value = pool.on(0, body).expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
    if let Err(Error::Start(StartError::Retired(held))) = Net::start().map(drop) {
        panic!("the run ended with {held:?}");
    }
    value
}

/// Runs `server` with a connection on a worker, and `peer` with its other end on a thread.
fn with_peer<C, R, P, S>(peer: P, server: S) -> (C, R)
where
    P: FnOnce(Client) -> C + Send,
    S: AsyncFnOnce(Worker<Net>, TcpStream) -> R + Send + 'static,
    C: Send,
    R: Send + 'static,
{
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let peer = scope.spawn(move || peer(client(told.recv().expect("the server listens"))));
        let served = on_net(async move |worker| {
            let mut listener = worker.listen("127.0.0.1:0").await.expect("a free port");
            tell.send(listener.local_addr().expect("bound")).expect("the peer lives");
            let conn = listener.accept().await.expect("the peer connects");
            drop(listener);
            server(worker, conn).await
        });
        (peer.join().expect("the peer is content"), served)
    })
}

/// Writes all of `bytes` on a thread of its own and returns what comes back, as long as `len`.
fn exchange(stream: &mut Client, bytes: &[u8], len: usize) -> Vec<u8> {
    let mut writer = stream.try_clone().expect("another handle");
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(bytes).expect("the server reads"));
        let mut back = vec![0; len];
        stream.read_exact(&mut back).expect("the server answers");
        back
    })
}

fn read_all(stream: &mut Client) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an orderly end");
    all
}

/// Makes the peer's close a reset.
fn reset(stream: Client) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a TCP socket");
}

/// Receives to the end.
async fn collect(conn: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = conn.recv().await.expect("an orderly end") {
        all.extend_from_slice(&data);
    }
    all
}

// ---- ends ----

#[test]
fn finish_takes_what_the_peer_still_sends_so_that_its_last_reply_arrives() {
    let reply = pattern(300_000);
    let expected = reply.clone();
    let peer = move |mut peer: Client| {
        let mut writer = peer.try_clone().expect("another handle");
        let got = read_all(&mut peer);
        // Long after the server has said its last word, and more than its window.
        writer.write_all(&pattern(2 << 20)).expect("the server takes it");
        writer.shutdown(Shutdown::Write).expect("it is open");
        got
    };
    let (got, finished) = with_peer(peer, async move |_, mut conn| {
        conn.push_copy(&reply).await?;
        conn.finish(Duration::from_secs(60)).await
    });
    assert_eq!((got == expected, finished), (true, Ok(())));
}

#[test]
fn finish_waits_for_a_peer_no_longer_than_it_is_told() {
    let (hold, held) = mpsc::channel::<()>();
    let peer = move |mut peer: Client| {
        let got = read_all(&mut peer);
        held.recv().expect("the server ends first");
        got
    };
    let (got, finished) = with_peer(peer, async move |_, mut conn| {
        conn.push("the end").await?;
        let finished = conn.finish(Duration::from_millis(20)).await;
        hold.send(()).expect("the peer waits");
        finished
    });
    assert_eq!((got.as_slice(), finished), (&b"the end"[..], Err(Error::TimedOut)));
}

#[test]
fn finish_waits_no_longer_for_a_peer_that_reads_nothing() {
    let (hold, held) = mpsc::channel::<()>();
    let peer = move |peer: Client| {
        held.recv().expect("the server ends first");
        drop(peer);
    };
    let ((), finished) = with_peer(peer, async move |worker, mut conn| {
        // More than both sockets hold, whatever the system lets them grow to.
        let pushed = async { while conn.push_copy(&[7; 65_536]).await.is_ok() {} };
        assert!(worker.timeout(Duration::from_millis(200), pushed).await.is_err(), "it reads");
        let finished = worker.timeout(HANG, conn.finish(Duration::from_millis(20))).await;
        hold.send(()).expect("the peer waits");
        finished
    });
    assert_eq!(finished, Ok(Err(Error::TimedOut)));
}

#[test]
fn a_stop_ends_the_wait_between_requests_and_none_within_one() {
    let peer = |mut peer: Client| {
        peer.write_all(b"one").expect("the server reads");
        read_all(&mut peer)
    };
    let (got, ended) = with_peer(peer, async |worker, mut conn| {
        let mut said = worker.buf().await?;
        assert_eq!(conn.recv_idle_into(&mut said).await, Ok(3));
        worker.stop();
        assert_eq!(conn.recv_idle_into(&mut said).await, Ok(0));
        let within = worker.timeout(Duration::from_millis(20), conn.recv_into(&mut said)).await;
        assert!(within.is_err(), "the peer has not ended its side");
        conn.send("and so it ends").await
    });
    assert_eq!((got.as_slice(), ended), (&b"and so it ends"[..], Ok(())));
}

#[test]
fn a_reset_right_behind_bytes_is_told() {
    let (go, gone) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let peer = move |mut peer: Client| {
        peer.write_all(b"one").expect("the server reads");
        go.1.recv().expect("it has");
        peer.write_all(b"two").expect("it is open");
        reset(peer);
        gone.0.send(()).expect("the server waits");
    };
    let ((), told) = with_peer(peer, async move |worker, mut conn| {
        let first = conn.recv().await?.map(|data| data.to_vec());
        assert_eq!(first.as_deref(), Some(&b"one"[..]));
        // The worker's turn lasts until both are there.
        go.0.send(()).expect("the peer waits");
        gone.1.recv().expect("the peer goes on");
        let rest = async {
            while conn.recv().await?.is_some() {}
            kio::Result::Ok(())
        };
        worker.timeout(HANG, rest).await.expect("it is told")
    });
    assert_eq!(told.expect_err("a reset").errno(), Some(libc::ECONNRESET));
}

// ---- bytes ----

#[test]
fn an_echo_returns_every_byte_of_any_length() {
    let pool = Echo::start_when_free().expect("starts");
    let addr = pool.local_addr().expect("it listens");
    for len in [1, 2, 100, 16 * 1024, 16 * 1024 + 1, scaled(10 << 20)] {
        let sent = pattern(len);
        let mut stream = client(addr);
        assert!(exchange(&mut stream, &sent, len) == sent, "{len} bytes");
        stream.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(read_all(&mut stream), b"");
    }
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
fn try_recv_takes_what_is_here_and_the_end_is_for_recv_to_tell() {
    let sent = pattern(4 * 16 * 1024);
    let back = sent.clone();
    let peer = move |mut peer: Client| {
        peer.write_all(&sent).expect("the server reads");
        peer.shutdown(Shutdown::Write).expect("connected");
        read_all(&mut peer)
    };
    let (got, (first, sends)) = with_peer(peer, async |worker, mut conn| {
        // Nothing was asked of the kernel, so nothing is here.
        assert!(conn.try_recv().is_none());
        let first = conn.recv().await.expect("bytes").expect("some").len();
        // The rest is on its way; each turn may bring some.
        let (mut got, before) = (first, worker.stats().ops.send);
        while got < 4 * 16 * 1024 {
            match conn.try_recv() {
                Some(more) => {
                    assert!(!more.is_empty());
                    got += more.len();
                    conn.push(more).await.expect("room");
                }
                None => match conn.recv().await.expect("bytes") {
                    Some(more) => {
                        got += more.len();
                        conn.push(more).await.expect("room");
                    }
                    None => break,
                },
            }
        }
        assert!(conn.try_recv().is_none(), "no more came");
        assert!(conn.recv().await.expect("the end").is_none());
        assert!(conn.try_recv().is_none(), "the end is nothing to take");
        conn.flush().await.expect("the peer reads");
        (first, worker.stats().ops.send - before)
    });
    assert!(got == back[first..], "all but what was taken first, in order");
    assert_eq!(sends, 1, "one send for all that was pushed");
}

#[test]
fn many_clients_at_once_get_their_own_bytes_back() {
    let pool = Echo::start_when_free().expect("starts");
    let addr = pool.local_addr().expect("it listens");
    thread::scope(|scope| {
        for nth in 0..24usize {
            scope.spawn(move || {
                let mut stream = client(addr);
                for round in 0..scaled(50) {
                    let sent = &pattern(70_000)[nth * 100..][..1 + round * 997];
                    assert!(exchange(&mut stream, sent, sent.len()) == sent);
                }
            });
        }
    });
    assert_eq!(pool.stats().map(|stats| stats.overflows).sum::<u64>(), 0);
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
fn writes_of_one_byte_arrive_in_order_and_hold_few_buffers() {
    let sent = pattern(scaled(20_000));
    let expected = sent.clone();
    let ((), (got, peak)) = with_peer(
        move |mut stream| {
            for byte in &sent {
                stream.write_all(&[*byte]).expect("the server reads");
            }
        },
        async |worker, mut conn| {
            let got = collect(&mut conn).await;
            (got, worker.stats().buffers_peak)
        },
    );
    assert!(got == expected);
    assert!(peak <= 10, "{peak} buffers for single bytes");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let count = scaled(20_000);
    let ((), ()) = with_peer(
        |mut stream| {
            let requests: Vec<u8> = (0..count as u64).flat_map(u64::to_be_bytes).collect();
            let back = exchange(&mut stream, &requests, requests.len());
            let expected: Vec<u8> = (0..count as u64).flat_map(|n| (!n).to_be_bytes()).collect();
            assert!(back == expected);
        },
        async |worker, mut conn| {
            // A request is eight bytes, and arrives in whatever parts.
            let mut request = worker.buf().await.expect("a buffer");
            while conn.recv_into(&mut request).await.expect("bytes") > 0 {
                while let Some(number) = request.first_chunk::<8>() {
                    let answer = !u64::from_be_bytes(*number);
                    request.consume(8);
                    conn.push_copy(&answer.to_be_bytes()).await.expect("room");
                }
                conn.flush().await.expect("the peer reads");
                request.compact();
            }
            assert!(request.is_empty());
        },
    );
}

#[test]
fn a_request_in_parts_is_put_together_by_recv_into() {
    let (tell, told) = mpsc::channel::<()>();
    with_peer(
        move |mut stream| {
            for part in ["GET /", "index", " HTTP/1.1\r\n", "\r\nrest"] {
                stream.write_all(part.as_bytes()).expect("the server reads");
                told.recv().expect("the server has it");
            }
        },
        async move |worker, mut conn| {
            let mut request = worker.buf().await.expect("a buffer");
            for so_far in [5, 10, 21, 27] {
                while request.len() < so_far {
                    assert!(conn.recv_into(&mut request).await.expect("bytes") > 0);
                }
                tell.send(()).expect("the peer lives");
            }
            assert_eq!(&request[..], b"GET /index HTTP/1.1\r\n\r\nrest");
            assert_eq!(conn.recv_into(&mut request).await, Ok(0));
            request.clear();
            while request.spare() > 0 {
                request.put_some(&[0; 100]);
            }
            let full = conn.recv_into(&mut request).await;
            assert!(matches!(full, Err(Error::Other(_))), "{full:?}");
        },
    );
}

// ---- the ends of a connection ----

#[test]
fn a_client_that_shut_its_side_still_gets_the_reply() {
    let (reply, ()) = with_peer(
        |mut stream| {
            stream.write_all(b"question").expect("the server reads");
            stream.shutdown(Shutdown::Write).expect("connected");
            read_all(&mut stream)
        },
        async |_, mut conn| {
            assert_eq!(collect(&mut conn).await, b"question");
            assert!(conn.recv().await.expect("still the end").is_none());
            conn.send("answer").await.expect("the peer reads");
            conn.close().await.expect("a clean end");
        },
    );
    assert_eq!(reply, b"answer");
}

#[test]
fn after_its_shutdown_a_server_sends_no_more_and_receives_on() {
    with_peer(
        |mut stream| {
            assert_eq!(read_all(&mut stream), b"last words");
            stream.write_all(b"and still").expect("the server reads");
        },
        async |_, mut conn| {
            conn.push("last words").await.expect("room");
            conn.shutdown().await.expect("a clean end");
            assert_eq!(conn.send("more").await, Err(Error::WriteClosed));
            assert_eq!(conn.shutdown().await, Ok(()));
            assert!(conn.try_push("more").is_err());
            assert_eq!(collect(&mut conn).await, b"and still");
        },
    );
}

#[test]
fn a_dropped_send_half_ends_the_peers_reading_and_the_other_half_receives_on() {
    with_peer(
        |mut stream| {
            assert_eq!(read_all(&mut stream), b"bye");
            stream.write_all(b"and still").expect("the server reads");
        },
        async |_, conn| {
            let (mut recv, mut send) = conn.into_split();
            send.send("bye").await.expect("the peer reads");
            drop(send);
            let data = recv.recv().await.expect("bytes").expect("not the end");
            assert_eq!(&data[..], b"and still");
        },
    );
}

#[test]
fn a_reset_while_receiving_is_an_error_and_no_hang() {
    with_peer(reset, async |_, mut conn| {
        let error = conn.recv().await.expect_err("a reset is no end");
        assert_eq!(error.errno(), Some(104));
        assert!(error.is_routine());
        let again = conn.recv().await;
        assert!(!matches!(again, Ok(Some(_))), "{again:?}");
        assert!(conn.send("anybody?").await.is_err());
    });
}

#[test]
fn what_came_before_a_reset_is_received_first() {
    let (tell, told) = mpsc::channel::<()>();
    with_peer(
        move |mut stream| {
            stream.write_all(b"first").expect("the server reads");
            told.recv().expect("it is queued");
            reset(stream);
        },
        async move |worker, mut conn| {
            // Armed by one poll; the bytes then lie in the connection's queue.
            while worker.stats().received < 5 {
                assert!(poll_then_drop(0, conn.recv()).await.is_none());
                let armed = std::pin::pin!(conn.recv());
                let mut armed = armed;
                let polled = std::future::poll_fn(|cx| Poll::Ready(armed.as_mut().poll(cx))).await;
                if let Poll::Ready(data) = polled {
                    assert_eq!(&data.expect("bytes").expect("no end")[..], b"first");
                    break;
                }
                yield_now().await;
            }
            tell.send(()).expect("the peer lives");
            let mut got = Vec::new();
            let error = loop {
                match conn.recv().await {
                    Ok(Some(data)) => got.extend_from_slice(&data),
                    Ok(None) => panic!("a reset is no end"),
                    Err(error) => break error,
                }
            };
            assert!(got.is_empty() || got == b"first");
            assert_eq!(error.errno(), Some(104));
        },
    );
}

#[test]
fn a_reset_while_sending_is_an_error_and_no_hang() {
    let (tell, told) = mpsc::channel::<()>();
    with_peer(
        move |stream| {
            told.recv().expect("the server sends");
            reset(stream);
        },
        async move |_, mut conn| {
            static LARGE: [u8; 1 << 20] = [7; 1 << 20];
            tell.send(()).expect("the peer lives");
            let error = loop {
                if let Err(error) = conn.send(&LARGE).await {
                    break error;
                }
            };
            assert!(error.is_routine(), "{error}");
            assert!(conn.send("more").await.is_err());
            assert!(conn.flush().await.is_err());
        },
    );
}

#[test]
fn a_closed_connections_slot_is_free_again() {
    let pool = Tight::start_when_free().expect("starts");
    pool.on(0, async |worker| {
        let peer = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = peer.local_addr().expect("bound");
        let accepting = thread::spawn(move || {
            for _ in 0..scaled(500) {
                let mut stream = peer.accept().expect("a client").0;
                assert_eq!(read_all(&mut stream), b"hello");
            }
        });
        let kept = worker.listen("127.0.0.1:0").await.expect("a free port");
        for _ in 0..scaled(500) {
            let mut conn = worker.connect(addr).await.expect("it listens");
            conn.push("hello").await.expect("room");
            conn.close().await.expect("flushed");
            assert_eq!(worker.stats().open, 0);
        }
        drop(kept);
        accepting.join().expect("content");
    })
    .expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
}

// ---- time ----

#[test]
fn a_receive_past_its_timeout_fails_and_loses_nothing() {
    let (tell, told) = mpsc::channel::<()>();
    with_peer(
        move |mut stream| {
            told.recv().expect("timed out");
            stream.write_all(b"late").expect("the server reads");
        },
        async move |worker, mut conn| {
            let span = Duration::from_millis(20);
            conn.set_recv_timeout(Some(span));
            for _ in 0..3 {
                let begun = worker.now();
                assert!(matches!(conn.recv().await, Err(Error::TimedOut)));
                assert!(begun.elapsed() >= span);
            }
            let mut into = worker.buf().await.expect("a buffer");
            assert_eq!(conn.recv_into(&mut into).await, Err(Error::TimedOut));
            tell.send(()).expect("the peer lives");
            conn.set_recv_timeout(None);
            assert_eq!(collect(&mut conn).await, b"late");
        },
    );
}

#[test]
fn a_receive_timeout_is_not_early_in_a_long_turn() {
    let (tell, told) = mpsc::channel::<()>();
    with_peer(
        move |stream| {
            told.recv().expect("timed out");
            drop(stream);
        },
        async move |worker, mut conn| {
            let span = Duration::from_millis(50);
            conn.set_recv_timeout(Some(span));
            // A task that computes for long, in the same turn.
            let busy = worker.now();
            while busy.elapsed() < 2 * span {
                std::hint::spin_loop();
            }
            let begun = worker.now();
            assert!(matches!(conn.recv().await, Err(Error::TimedOut)));
            let waited = begun.elapsed();
            tell.send(()).expect("the peer lives");
            assert!(waited >= span, "{waited:?} of {span:?}");
        },
    );
}

#[test]
fn a_send_that_is_never_read_is_cut_off_and_nothing_follows_it() {
    let (tell, told) = mpsc::channel::<()>();
    with_peer(
        move |mut stream| {
            stream.write_all(b"still here").expect("room");
            told.recv().expect("the server is done");
        },
        async move |_, mut conn| {
            static LARGE: [u8; 64 << 20] = [0; 64 << 20];
            conn.set_send_timeout(Some(Duration::from_millis(30)));
            assert_eq!(conn.send(&LARGE).await, Err(Error::TimedOut));
            assert_eq!(conn.send("more").await, Err(Error::WriteCut));
            assert_eq!(conn.flush().await, Err(Error::WriteCut));
            assert_eq!(conn.push_copy(b"more").await, Err(Error::WriteCut));
            assert!(conn.try_push("more").is_err());
            let data = conn.recv().await.expect("it receives on");
            assert_eq!(&data.expect("bytes")[..], b"still here");
            tell.send(()).expect("the peer lives");
        },
    );
}

// ---- addresses ----

#[test]
fn both_ends_know_both_addresses() {
    let ((local, peer), (own_local, own_peer)) = with_peer(
        |stream| {
            let addrs = (stream.local_addr(), stream.peer_addr());
            (addrs.0.expect("bound"), addrs.1.expect("connected"))
        },
        async |_, conn| {
            let addrs = (conn.local_addr(), conn.peer_addr());
            (addrs.0.expect("bound"), addrs.1.expect("connected"))
        },
    );
    assert_eq!((local, peer), (own_peer, own_local));
}

/// Connects to `listener` from the same worker and compares what both ends say.
async fn compare_addrs(worker: Worker<Net>, ask: &str, options: ListenOptions) {
    let mut listener = worker.listen_with(ask, options).await.expect("bound");
    let bound = listener.local_addr().expect("bound");
    assert_ne!(bound.port(), 0);
    let mut target = bound;
    if bound.ip().is_unspecified() {
        target.set_ip(match bound {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let near = worker.connect(target).await.expect("it listens");
    let far = listener.accept().await.expect("somebody connected");
    assert_eq!(near.peer_addr(), Ok(target));
    assert_eq!(near.local_addr(), far.peer_addr());
    match far.local_addr() {
        Ok(addr) => assert_eq!(addr, target),
        Err(error) => {
            assert!(bound.ip().is_unspecified(), "{error}");
            assert!(far.real_fd().is_none(), "{error}");
        }
    }
}

#[test]
fn addresses_are_right_for_wildcards_real_fds_and_ipv6() {
    let v6 = TcpListener::bind("[::1]:0").is_ok();
    on_net(async move |worker| {
        for options in [ListenOptions::new(), ListenOptions::new().real_fds()] {
            compare_addrs(worker, "127.0.0.1:0", options).await;
            compare_addrs(worker, "0.0.0.0:0", options).await;
            if v6 {
                compare_addrs(worker, "[::1]:0", options).await;
                compare_addrs(worker, "[::]:0", options).await;
            }
        }
    });
    if !v6 {
        println!("skipped: no ::1 here");
    }
}

#[test]
fn a_connection_keeps_its_address_when_its_listener_is_gone() {
    on_net(async |worker| {
        let mut first = worker.listen("127.0.0.1:0").await.expect("a free port");
        let addr = first.local_addr().expect("bound");
        let near = worker.connect(addr).await.expect("it listens");
        let far = first.accept().await.expect("somebody connected");
        drop(first);
        // The accepts that were armed end first.
        while worker.stats().in_flight > 1 {
            yield_now().await;
        }
        let second = worker.listen("127.0.0.2:0").await.expect("a free port");
        assert_eq!(far.local_addr(), Ok(addr));
        drop((near, far, second));
    });
}

#[test]
fn real_fds_are_there_where_asked_for_and_only_there() {
    on_net(async |worker| {
        let options = ListenOptions::new().real_fds();
        let mut listener = worker.listen_with("127.0.0.1:0", options).await.expect("ok");
        let addr = listener.local_addr().expect("bound");
        let plain = worker.connect(addr).await.expect("it listens");
        let far = listener.accept().await.expect("connected");
        assert!(plain.real_fd().is_none());
        assert!(far.real_fd().is_some());
        let options = ConnectOptions::new().real_fd();
        let near = worker.connect_with(addr, options).await.expect("listens");
        assert!(near.real_fd().is_some());
        let mut far = listener.accept().await.expect("connected");
        let mut near = near;
        near.send("over a real one").await.expect("sent");
        let data = far.recv().await.expect("bytes").expect("bytes");
        assert_eq!(&data[..], b"over a real one");
        let fd = near.real_fd().expect("asked for");
        near.close().await.expect("closed");
        let closed = !std::path::Path::new(&format!("/proc/self/fd/{fd}")).exists();
        assert!(closed || worker.stats().open > 0);
    });
}

#[test]
fn ipv6_carries_bytes_as_well() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: no ::1 here");
        return;
    }
    on_net(async |worker| {
        let mut listener = worker.listen("[::1]:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let mut near = worker.connect(addr).await.expect("it listens");
        let mut far = listener.accept().await.expect("connected");
        near.send("six").await.expect("sent");
        let data = far.recv().await.expect("bytes").expect("bytes");
        assert_eq!(&data[..], b"six");
    });
}

// ---- connecting ----

#[test]
fn a_refused_connect_is_an_error_and_frees_its_slot() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = free.local_addr().expect("bound");
    drop(free);
    let pool = Tight::start_when_free().expect("starts");
    pool.on(0, async move |worker| {
        for _ in 0..10 {
            let error = worker.connect(addr).await.expect_err("nobody listens");
            assert_eq!(error.errno(), Some(111));
        }
        let nowhere = worker.connect("not an address").await;
        assert!(matches!(nowhere, Err(Error::Other(_))));
    })
    .expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
}

/// A listener whose backlog is full: further clients are left waiting.
fn full_backlog() -> (TcpListener, Vec<Client>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    rustix::net::listen(&listener, 1).expect("a listener");
    let addr = listener.local_addr().expect("bound");
    let mut waiting = Vec::new();
    while let Ok(stream) = Client::connect_timeout(&addr, Duration::from_millis(50)) {
        waiting.push(stream);
    }
    (listener, waiting)
}

#[test]
fn a_connect_gives_up_in_time_and_frees_its_slot() {
    let (listener, waiting) = full_backlog();
    let addr = listener.local_addr().expect("bound");
    let pool = Tight::start_when_free().expect("starts");
    pool.on(0, async move |worker| {
        let span = Duration::from_millis(20);
        for _ in 0..5 {
            let begun = worker.now();
            let options = ConnectOptions::new().timeout(span);
            let late = worker.connect_with(addr, options).await;
            assert!(matches!(late, Err(Error::TimedOut)), "{late:?}");
            assert!(begun.elapsed() >= span);
        }
    })
    .expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
    drop((listener, waiting));
}

#[test]
fn a_connect_given_up_at_any_poll_frees_its_slot() {
    let (listener, waiting) = full_backlog();
    let hangs = listener.local_addr().expect("bound");
    let quick = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let answers = quick.local_addr().expect("bound");
    let pool = Tight::start_when_free().expect("starts");
    pool.on(0, async move |worker| {
        for polls in 0..200 {
            drop(poll_then_drop(polls % 5, worker.connect(answers)).await);
            drop(poll_then_drop(polls % 2, worker.connect(hangs)).await);
        }
        let conn = worker.connect(answers).await.expect("slots are free again");
        conn.close().await.expect("closed");
    })
    .expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
    drop((listener, waiting, quick));
}

#[test]
fn a_connect_given_up_after_its_turn_came_passes_the_slot_on() {
    let peer = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = peer.local_addr().expect("bound");
    let pool = Tight::start_when_free().expect("starts");
    pool.on(0, async move |worker| {
        let first = worker.connect(addr).await.expect("it listens");
        let other = worker.connect(addr).await.expect("it listens");
        let mut given_up = Box::pin(worker.connect(addr));
        std::future::poll_fn(|cx| {
            assert!(given_up.as_mut().poll(cx).is_pending(), "no slot is free");
            Poll::Ready(())
        })
        .await;
        let waits = worker.spawn(async move || worker.connect(addr).await.map(drop)).expect("room");
        yield_now().await;
        first.close().await.expect("closed"); // its slot is the first waiter's
        drop(given_up);
        waits.await.expect("no panic").expect("it listens");
        drop(other);
    })
    .expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
}

// ---- halves ----

#[test]
fn two_tasks_use_the_two_halves_at_once() {
    let len = scaled(4 << 20);
    let (back, ()) = with_peer(
        move |mut stream| {
            let sent = pattern(len);
            let back = exchange(&mut stream, &sent, len) == sent;
            stream.shutdown(Shutdown::Write).expect("connected");
            back && read_all(&mut stream).is_empty()
        },
        async |worker, conn| {
            let (recv, send) = conn.into_split();
            let joined = worker.spawn(move || forward(recv, send)).expect("room");
            joined.await.expect("no panic");
        },
    );
    assert!(back);
}

#[test]
fn borrowed_halves_send_and_receive_in_one_task() {
    /// Sends `bytes` again and again while it receives to the end.
    async fn both<S: Stream>(mut stream: S, bytes: &'static [u8], times: usize) -> Vec<u8> {
        let (mut recv, mut send) = stream.split();
        let mut got = Vec::new();
        let sending = async {
            for _ in 0..times {
                send.push(bytes).await.expect("room");
            }
            send.flush().await.expect("the peer reads");
            send.shutdown().await.expect("connected");
        };
        let receiving = async {
            while let Some(data) = recv.recv().await.expect("an orderly end") {
                got.extend_from_slice(&data);
            }
        };
        let mut sending = Box::pin(sending);
        let mut receiving = Box::pin(receiving);
        let (mut sent, mut received) = (false, false);
        std::future::poll_fn(|cx| {
            sent = sent || sending.as_mut().poll(cx).is_ready();
            received = received || receiving.as_mut().poll(cx).is_ready();
            match sent && received {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        drop(receiving);
        got
    }
    static PART: [u8; 100_000] = [b'p'; 100_000];
    let len = scaled(2 << 20);
    let (theirs, ours) = with_peer(
        move |mut stream| {
            let mut writer = stream.try_clone().expect("another handle");
            thread::scope(|scope| {
                scope.spawn(move || {
                    writer.write_all(&pattern(len)).expect("the server reads");
                    writer.shutdown(Shutdown::Write).expect("connected");
                });
                read_all(&mut stream).len()
            })
        },
        async |_, conn| both(conn, &PART, 50).await,
    );
    assert_eq!(theirs, 50 * PART.len());
    assert!(ours == pattern(len));
}

// ---- sending ----

#[test]
fn whatever_is_pushed_goes_out_in_order() {
    let (got, expected) = with_peer(
        |mut stream| read_all(&mut stream),
        async |worker, mut conn| {
            let mut expected = Vec::new();
            for round in 0..scaled(300) {
                let text: &'static str = ["static", "", "text"][round % 3];
                conn.push(text).await.expect("room");
                expected.extend_from_slice(text.as_bytes());

                conn.push(b"array").await.expect("room");
                expected.extend_from_slice(b"array");

                let copied = &pattern(40_000)[..round * 131 % 40_000];
                conn.push_copy(copied).await.expect("room");
                expected.extend_from_slice(copied);
                conn.push_copy(b"joined").await.expect("room");
                expected.extend_from_slice(b"joined");

                let mut buf = worker.buf().await.expect("a buffer");
                buf.put(copied.get(..100).unwrap_or(b"short")).expect("fits");
                expected.extend_from_slice(&buf);
                let shared = buf.freeze();
                let slice = shared.slice(1..shared.len() - 1);
                expected.extend_from_slice(&slice);
                conn.push(shared).await.expect("room");
                conn.push(slice).await.expect("room");

                let mut unfrozen = worker.buf().await.expect("a buffer");
                unfrozen.put(b"written").expect("fits");
                match conn.try_push(unfrozen) {
                    Ok(()) => {}
                    Err(full) => {
                        conn.flush().await.expect("the peer reads");
                        conn.try_push(full).expect("an empty outbox has room");
                    }
                }
                expected.extend_from_slice(b"written");
                if round % 7 == 0 {
                    conn.send_copy(b"|").await.expect("the peer reads");
                    expected.push(b'|');
                }
            }
            conn.flush().await.expect("the peer reads");
            expected
        },
    );
    assert_eq!(got.len(), expected.len());
    assert!(got == expected);
}

#[test]
fn an_outbox_takes_what_is_declared_and_gives_back_the_rest() {
    with_peer(
        |mut stream| assert_eq!(read_all(&mut stream).len(), 16),
        async |_, mut conn| {
            for _ in 0..16 {
                conn.try_push("x").expect("room for sixteen");
            }
            let back = conn.try_push("too much").expect_err("full");
            assert_eq!(back.len(), 8);
            conn.flush().await.expect("the peer reads");
        },
    );
}

#[test]
fn more_items_than_the_outbox_holds_go_out_gathered() {
    let count = scaled(5_000);
    let (got, sends) = with_peer(
        |mut stream| read_all(&mut stream),
        async move |worker, mut conn| {
            let before = worker.stats().submitted;
            for nth in 0..count {
                let digit: &'static [u8] = &b"0123456789"[nth % 10..][..1];
                conn.push(digit).await.expect("room");
            }
            conn.flush().await.expect("the peer reads");
            worker.stats().submitted - before
        },
    );
    let expected: Vec<u8> = (0..count).map(|nth| b'0' + (nth % 10) as u8).collect();
    assert!(got == expected);
    assert!(sends <= count as u64 / 8 + 16, "{sends} operations for {count} items");
}

#[test]
fn small_copies_share_a_buffer() {
    let (got, held) = with_peer(
        |mut stream| read_all(&mut stream).len(),
        async |worker, mut conn| {
            for _ in 0..100 {
                conn.push_copy(b"0123456789").await.expect("room");
            }
            yield_now().await; // counted once a turn
            let held = worker.stats().buffers;
            conn.flush().await.expect("the peer reads");
            held
        },
    );
    assert_eq!(got, 1000);
    assert!(held <= 1, "{held} buffers for a thousand bytes");
}

// ---- given up half-way ----

#[test]
fn a_dropped_recv_loses_no_bytes() {
    for polls in 0..4 {
        let len = scaled(300_000);
        let ((), got) = with_peer(
            move |mut stream| {
                for part in pattern(len).chunks(1 + 37 * polls) {
                    stream.write_all(part).expect("the server reads");
                }
            },
            async move |_, mut conn| {
                let mut got = Vec::new();
                loop {
                    match poll_then_drop(polls, conn.recv()).await {
                        Some(Ok(Some(data))) => got.extend_from_slice(&data),
                        Some(Ok(None)) => return got,
                        Some(Err(error)) => panic!("{error}"),
                        None if polls == 0 => match conn.recv().await.expect("bytes") {
                            Some(data) => got.extend_from_slice(&data),
                            None => return got,
                        },
                        None => yield_now().await,
                    }
                }
            },
        );
        assert!(got == pattern(len), "{polls} polls");
    }
}

#[test]
fn a_forgotten_recv_loses_no_bytes() {
    let len = scaled(30_000);
    let ((), got) = with_peer(
        move |mut stream| {
            for part in pattern(len).chunks(100) {
                stream.write_all(part).expect("the server reads");
            }
        },
        async |_, mut conn| {
            conn.set_recv_timeout(Some(kio_tests::HANG));
            let mut got = Vec::new();
            loop {
                let mut forgotten = Box::pin(conn.recv());
                let polled =
                    std::future::poll_fn(|cx| Poll::Ready(forgotten.as_mut().poll(cx))).await;
                match polled {
                    Poll::Ready(data) => match data.expect("bytes") {
                        Some(data) => got.extend_from_slice(&data),
                        None => return got,
                    },
                    Poll::Pending => {
                        std::mem::forget(forgotten);
                        match conn.recv().await.expect("bytes") {
                            Some(data) => got.extend_from_slice(&data),
                            None => return got,
                        }
                    }
                }
            }
        },
    );
    assert!(got == pattern(len));
}

#[test]
fn a_dropped_send_that_was_polled_goes_out_whole() {
    for polls in 0..4 {
        let count = scaled(200);
        let (got, expected) = with_peer(
            |mut stream| read_all(&mut stream),
            async move |worker, mut conn| {
                let mut expected = Vec::new();
                for nth in 0..count {
                    let mut buf = worker.buf().await.expect("a buffer");
                    buf.put(&pattern(16 * 1024)[..1 + nth * 79]).expect("fits");
                    if polls > 0 {
                        expected.extend_from_slice(&buf);
                    }
                    let _ = poll_then_drop(polls, conn.send(buf)).await;
                    if nth % 3 == 0 {
                        let _ = poll_then_drop(polls, conn.flush()).await;
                    }
                    // So that the next one finds room.
                    if nth % 8 == 7 {
                        conn.flush().await.expect("the peer reads");
                    }
                }
                conn.flush().await.expect("the peer reads");
                expected
            },
        );
        assert!(got == expected, "{polls} polls");
    }
}

#[test]
fn a_forgotten_send_that_was_polled_goes_out_whole() {
    let (got, ()) = with_peer(
        |mut stream| read_all(&mut stream).len(),
        async |worker, mut conn| {
            conn.set_send_timeout(Some(kio_tests::HANG));
            for _ in 0..50 {
                let mut buf = worker.buf().await.expect("a buffer");
                buf.put(&pattern(10_000)).expect("fits");
                let mut send = Box::pin(conn.send(buf));
                std::future::poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx).is_ready())).await;
                std::mem::forget(send);
                conn.flush().await.expect("the peer reads");
            }
        },
    );
    assert_eq!(got, 50 * 10_000);
}

#[test]
fn an_accept_given_up_at_any_poll_loses_no_connection() {
    for polls in 0..5 {
        for options in [ListenOptions::new(), ListenOptions::new().real_fds()] {
            let clients = scaled(60);
            let (tell, told) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(move || {
                    let addr = told.recv().expect("it listens");
                    for round in 0..clients / 4 + 1 {
                        let mut four: Vec<_> = (0..4).map(|_| client(addr)).collect();
                        for stream in &mut four {
                            stream.write_all(&[round as u8]).expect("accepted");
                            stream.shutdown(Shutdown::Write).expect("connected");
                            assert_eq!(read_all(stream), [round as u8]);
                        }
                    }
                });
                on_net(async move |worker| {
                    let opened = worker.listen_with("127.0.0.1:0", options).await;
                    let mut listener = opened.expect("a free port");
                    tell.send(listener.local_addr().expect("bound")).expect("the clients live");
                    for _ in 0..(clients / 4 + 1) * 4 {
                        let conn = loop {
                            let polls = if polls == 0 { 9 } else { polls };
                            match poll_then_drop(polls, listener.accept()).await {
                                Some(conn) => break conn.expect("a connection"),
                                None => yield_now().await,
                            }
                        };
                        drop(worker.spawn(move || echo(conn)));
                        yield_now().await;
                    }
                    while worker.stats().open > 0 {
                        yield_now().await;
                    }
                });
            });
        }
    }
}

#[test]
fn forgotten_accepts_leave_the_pool_empty() {
    let pool = Net::start_when_free().expect("the last run held nothing");
    let body = async |worker: Worker<Net>| {
        let mut listener = worker.listen("127.0.0.1:0").await.expect("a free port");
        for polls in 0..10 {
            let mut accept = Box::pin(listener.accept());
            for _ in 0..polls {
                std::future::poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx).is_ready())).await;
                yield_now().await;
            }
            std::mem::forget(accept);
        }
        std::mem::forget(listener);
    };
    pool.on(0, body).expect("the body ends");
    pool.stop();
    pool.stop(); // what was forgotten would be waited for
    pool.join().expect("a clean end");
    Net::start_when_free().expect("nothing is held");
}

#[test]
fn a_pool_with_forgotten_connects_is_retired() {
    kio::pool! { struct Forgetful; entry = idle, calls = 1 x 4 KiB }
    let pool = Forgetful::start().expect("starts");
    let peer = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = peer.local_addr().expect("bound");
    let body = async move |worker: Worker<Forgetful>| {
        for polls in 0..4 {
            let mut connect = Box::pin(worker.connect(addr));
            for _ in 0..polls {
                std::future::poll_fn(|cx| Poll::Ready(connect.as_mut().poll(cx).is_ready())).await;
            }
            std::mem::forget(connect);
        }
    };
    pool.on(0, body).expect("the body ends");
    pool.stop();
    pool.stop();
    pool.join().expect("a clean end");
    match Forgetful::start().map(drop) {
        Err(Error::Start(StartError::Retired(held))) => assert_eq!(held.sockets, 3),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_dropped_with_everything_under_way_leaves_the_pool_empty() {
    static LARGE: [u8; 8 << 20] = [1; 8 << 20];
    for polls in 0..6 {
        with_peer(
            |mut stream| {
                let _ = stream.write_all(&pattern(100_000));
                let _ = stream.read_to_end(&mut Vec::new());
            },
            async move |_, mut conn| {
                drop(poll_then_drop(polls, conn.recv()).await);
                let _ = poll_then_drop(polls, conn.send(&LARGE)).await;
                drop(poll_then_drop(polls, conn.recv()).await);
                match polls % 3 {
                    0 => drop(conn),
                    1 => drop(poll_then_drop(polls, conn.close()).await),
                    _ => {
                        let (recv, send) = conn.into_split();
                        drop(send);
                        drop(recv);
                    }
                }
            },
        );
    }
}

// ---- who is woken ----

#[test]
fn a_recv_future_that_moved_to_another_task_wakes_that_task() {
    type Moved = Pin<Box<dyn Future<Output = (TcpStream, Vec<u8>)>>>;
    let (tell, told) = mpsc::channel::<()>();
    with_peer(
        move |mut stream| {
            told.recv().expect("it has moved");
            stream.write_all(b"for the second").expect("the server reads");
        },
        async move |worker, mut conn| {
            let parcel: Rc<RefCell<Option<Moved>>> = Rc::default();
            let sent = Rc::clone(&parcel);
            let first = async move || {
                let mut moved: Moved = Box::pin(async move {
                    let data = conn.recv().await.expect("bytes").expect("bytes");
                    let data = data.to_vec();
                    (conn, data)
                });
                std::future::poll_fn(|cx| {
                    assert!(moved.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                *sent.borrow_mut() = Some(moved);
                // Ends here: its slot, and its waker, are another's soon.
            };
            worker.spawn(first).expect("room").await.expect("no panic");
            let second = async move || {
                let moved = parcel.borrow_mut().take().expect("the first left it");
                let mut moved = moved;
                let mut tell = Some(tell);
                let (_conn, data) = std::future::poll_fn(|cx| {
                    let polled = moved.as_mut().poll(cx);
                    if let Some(tell) = tell.take() {
                        tell.send(()).expect("the peer lives");
                    }
                    polled
                })
                .await;
                data
            };
            let joined = worker.spawn(async move || Ok::<_, Error>(second().await));
            let data = joined.expect("room").await.expect("no panic").expect("ok");
            assert_eq!(data, b"for the second");
        },
    );
}

#[test]
fn one_task_receives_from_many_through_futures_unordered() {
    const CONNS: usize = 20;
    let rounds = scaled(50);
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let addr = told.recv().expect("it listens");
            let mut streams: Vec<_> = (0..CONNS).map(|_| client(addr)).collect();
            for round in 0..rounds {
                // In an order of its own each time.
                for nth in 0..CONNS {
                    let stream = &mut streams[(nth * 7 + round) % CONNS];
                    stream.write_all(b"ping").expect("the server reads");
                    let mut back = [0; 4];
                    stream.read_exact(&mut back).expect("the server answers");
                }
            }
        });
        on_net(async move |worker| {
            let mut listener = worker.listen("127.0.0.1:0").await.expect("a free port");
            tell.send(listener.local_addr().expect("bound")).expect("the clients live");
            let answer = |mut conn: TcpStream| async move {
                let data = conn.recv().await.expect("an orderly end")?;
                conn.send(data).await.expect("the peer reads");
                Some(conn)
            };
            let mut all = FuturesUnordered::new();
            for _ in 0..CONNS {
                all.push(answer(listener.accept().await.expect("a client")));
            }
            let mut answers = 0;
            while let Some(conn) = all.next().await {
                if let Some(conn) = conn {
                    answers += 1;
                    all.push(answer(conn));
                }
            }
            assert!(answers >= rounds * CONNS);
        });
    });
}

// ---- stopping ----

#[test]
fn idle_connections_end_when_the_pool_stops() {
    let pool = Echo::start_when_free().expect("starts");
    let addr = pool.local_addr().expect("it listens");
    let mut streams: Vec<_> = (0..8).map(|_| client(addr)).collect();
    for stream in &mut streams {
        assert_eq!(exchange(stream, b"hello", 5), b"hello");
    }
    pool.stop();
    for stream in &mut streams {
        assert_eq!(read_all(stream), b"");
    }
    pool.join().expect("a clean end");
}

#[test]
fn two_pools_serve_at_once() {
    kio::pool! {
        struct Other;
        listen = { "127.0.0.1:0" => echo },
        conns = 8,
        buffers = 32 x 4 KiB,
    }
    let first = Echo::start_when_free().expect("starts");
    let second = Other::start_when_free().expect("starts");
    let mut one = client(first.local_addr().expect("it listens"));
    let mut two = client(second.local_addr().expect("it listens"));
    for _ in 0..100 {
        assert_eq!(exchange(&mut one, b"one", 3), b"one");
        assert_eq!(exchange(&mut two, b"two", 3), b"two");
    }
    first.stop();
    first.join().expect("a clean end");
    assert_eq!(exchange(&mut two, b"two", 3), b"two");
    second.stop();
    second.join().expect("a clean end");
}
