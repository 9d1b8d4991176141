//! Faults from outside and from user code: peers that reset, vanish or never read, signals at every
//! moment, stops in the middle of everything, handles that are never given back. One connection
//! pays, the pool goes on, and in the end nothing is missing.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kio::{Error, Handle, Held, StartError, Stats, net};
use kio_tests::{HANG, again, client, is_child, pattern, scaled};

type Result<T = ()> = kio::Result<T>;

// ---- what the tests share ----

/// Echoes.
async fn echo(mut conn: net::TcpStream) -> Result {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    Ok(())
}

/// Waits for something that will come: polls until it is there.
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < HANG, "in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// One number of all workers.
fn sum<P: kio::__private::Pool>(pool: &Handle<P>, number: impl Fn(&Stats) -> u64) -> u64 {
    pool.stats().map(|stats| number(&stats)).sum()
}

/// Stops a pool whose connections are gone or going, and finds it empty.
fn ends_empty<P: kio::__private::Pool<State = ()>>(pool: Handle<P>) {
    until("every connection closes", || sum(&pool, |s| s.open) == 0);
    until("every buffer comes back", || sum(&pool, |s| s.buffers) == 0);
    assert_eq!(sum(&pool, |s| s.overflows), 0, "completions overflowed");
    pool.stop();
    pool.join().expect("no entry failed");
    let again = kio::__private::start::<P>(()).expect("empty, so it starts again");
    again.stop();
    again.join().expect("the second run ends");
}

/// What a pool that ended holding something says of it at the next start.
fn retired<P: kio::__private::Pool<State = ()>>(pool: Handle<P>) -> Held {
    pool.stop();
    pool.join().expect("no entry failed");
    match kio::__private::start::<P>(()) {
        Err(Error::Start(StartError::Retired(held))) => held,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("it started again, though something was held"),
    }
}

/// Closes with a reset: what is under way is lost, on both sides.
fn reset(client: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is the client's and open; the option reads one `linger`.
    let set = unsafe {
        libc::setsockopt(
            client.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as u32,
        )
    };
    assert_eq!(set, 0);
}

/// Random numbers that are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

// ---- peers ----

static CHUNK: [u8; 1 << 20] = [7; 1 << 20];

/// Sends until the peer is gone.
async fn pour(mut conn: net::TcpStream) -> Result {
    loop {
        conn.send(&CHUNK[..]).await?;
    }
}

kio::pool! {
    struct Pour;
    listen = { "127.0.0.1:0" => pour },
    conns = 64,
    buffers = 32 x 4 KiB,
    pin = off,
}

#[test]
fn a_peer_that_resets_in_the_middle_of_a_big_send_ends_one_connection() {
    let pool = Pour::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let rounds = scaled(100);
    for round in 0..rounds {
        let mut peer = client(addr);
        let mut some = vec![0; 1 + round * 4099];
        peer.read_exact(&mut some).expect("the send begins");
        assert!(some.iter().all(|byte| *byte == 7));
        reset(peer);
    }
    until("every send ends", || sum(&pool, |s| s.routine_failures) == rounds as u64);
    assert_eq!(sum(&pool, |s| s.failures), 0, "a reset is an everyday error");
    ends_empty(pool);
}

/// Receives until the peer is gone, and tells nothing but an error.
async fn swallow(mut conn: net::TcpStream) -> Result {
    while conn.recv().await?.is_some() {}
    Ok(())
}

kio::pool! {
    struct Swallow;
    listen = { "127.0.0.1:0" => swallow },
    conns = 64,
    buffers = 32 x 4 KiB,
    pin = off,
}

#[test]
fn a_peer_that_resets_in_the_middle_of_a_request_ends_one_connection() {
    let pool = Swallow::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let rounds = scaled(200);
    for round in 0..rounds {
        let mut peer = client(addr);
        peer.write_all(&CHUNK[..1 + round * 1021]).expect("sends");
        reset(peer);
    }
    until("every connection closes", || {
        sum(&pool, |s| s.accepted) == rounds as u64 && sum(&pool, |s| s.open) == 0
    });
    assert_eq!(sum(&pool, |s| s.failures), 0);
    ends_empty(pool);
}

/// Sends four pieces at once and closes.
async fn answer_and_close(mut conn: net::TcpStream) -> Result {
    for _ in 0..4 {
        conn.push(&CHUNK[..1000]).await?;
    }
    conn.send_copy(&CHUNK[..100]).await?;
    conn.close().await
}

kio::pool! {
    struct Hasty;
    listen = { "127.0.0.1:0" => answer_and_close },
    conns = 64,
    buffers = 32 x 4 KiB,
    pin = off,
}

#[test]
fn a_peer_may_close_at_the_moment_it_is_answered() {
    let pool = Hasty::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    for round in 0..scaled(3000) {
        let mut peer = client(addr);
        match round % 4 {
            0 => reset(peer),
            1 => drop(peer),
            2 => {
                peer.read_exact(&mut [0]).expect("one byte at least");
                reset(peer);
            }
            _ => {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).expect("all of it");
                assert_eq!(all.len(), 4100);
            }
        }
    }
    assert_eq!(sum(&pool, |s| s.failures), 0);
    assert_eq!(sum(&pool, |s| s.panics), 0);
    ends_empty(pool);
}

kio::pool! {
    struct Revolving;
    workers = 2,
    listen = { "127.0.0.1:0" => echo },
    conns = 128,
    buffers = 64 x 4 KiB,
    pin = off,
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("there is /proc").count()
}

/// In a process of its own, since descriptors are counted. `KIO_TEST_FULL` makes it ten times as
/// long.
#[test]
fn thousands_of_connects_and_closes_lose_no_slot_no_buffer_and_no_descriptor() {
    if !is_child() {
        let test = "thousands_of_connects_and_closes_lose_no_slot_no_buffer_and_no_descriptor";
        let ended = again(test).wait_with_output().expect("the child ends");
        assert!(ended.status.success(), "{ended:?}");
        return;
    }
    let full = std::env::var_os("KIO_TEST_FULL").is_some();
    let all = scaled(if full { 200_000 } else { 20_000 });
    let pool = Revolving::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let before = open_descriptors();
    for round in 0..all {
        let mut peer = client(addr);
        match round % 8 {
            0..=3 => reset(peer),
            4 | 5 => drop(peer),
            _ => {
                peer.write_all(b"x").expect("sends");
                if round % 8 == 7 {
                    peer.read_exact(&mut [0]).expect("echoes");
                }
                reset(peer);
            }
        }
    }
    until("all are accepted and closed", || {
        sum(&pool, |s| s.accepted + s.accept_errors) >= all as u64 && sum(&pool, |s| s.open) == 0
    });
    until("every descriptor is closed", || open_descriptors() == before);
    assert_eq!(sum(&pool, |s| s.failures), 0);
    ends_empty(pool);
}

/// An echo that gives its futures up all the time.
async fn fickle(mut conn: net::TcpStream) -> Result {
    let core = conn.core();
    let mut span = 1;
    loop {
        span = span * 7 % 1009; // microseconds, in no order
        let short = Duration::from_micros(span);
        let data = match core.timeout(short, conn.recv_idle()).await {
            Err(_) => continue,
            Ok(received) => received?,
        };
        let Some(data) = data else { break };
        // Pushed and not flushed, flushed and given up, split and joined: all goes out in order.
        let half = data.len() / 2;
        conn.push(data.slice(half..half)).await?;
        conn.push(data.slice(..half)).await?;
        conn.push_copy(&data[half..]).await?;
        for _ in 0..3 {
            if let Ok(flushed) = core.timeout(short, conn.flush()).await {
                flushed?;
            }
        }
    }
    conn.flush().await
}

kio::pool! {
    struct Fickle;
    workers = 2,
    listen = { "127.0.0.1:0" => fickle },
    conns = 16,
    buffers = 64 x 4 KiB,
    pin = off,
}

/// One client's life: sends, reads what comes of it, and goes in one of four ways.
fn live(addr: SocketAddr, random: &mut Random, bytes: &[u8]) {
    let mut peer = client(addr);
    let all = 1 + random.below(60_000) as usize;
    let (mut sent, mut read) = (0, 0);
    let mut got = vec![0; 16 * 1024];
    while sent < all {
        let n = (1 + random.below(9000) as usize).min(all - sent);
        peer.write_all(&bytes[sent..sent + n]).expect("sends");
        sent += n;
        if random.below(2) == 0 && read < sent {
            let n = peer.read(&mut got).expect("echoes");
            assert!(n > 0, "closed too early");
            assert_eq!(got[..n], bytes[read..read + n]);
            read += n;
        }
    }
    match random.below(4) {
        0 => reset(peer),
        1 => drop(peer),
        end => {
            if end == 2 {
                peer.shutdown(Shutdown::Write).expect("connected");
            }
            while read < sent {
                let n = peer.read(&mut got).expect("echoes");
                assert!(n > 0, "closed too early");
                assert_eq!(got[..n], bytes[read..read + n]);
                read += n;
            }
            if end == 2 {
                assert_eq!(peer.read(&mut got).expect("then the end"), 0);
            }
        }
    }
}

#[test]
fn any_mix_of_peers_gets_its_own_bytes_back_and_leaves_nothing() {
    let pool = Fickle::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let bytes = pattern(60_001);
    thread::scope(|scope| {
        for seed in 1..=24 {
            let bytes = &bytes;
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed << 20);
                for _ in 0..scaled(40) {
                    live(addr, &mut random, bytes);
                }
            });
        }
    });
    assert_eq!(sum(&pool, |s| s.failures), 0);
    assert_eq!(sum(&pool, |s| s.panics), 0);
    ends_empty(pool);
}

// ---- signals ----

kio::pool! {
    struct Storm;
    workers = 2,
    listen = { "127.0.0.1:0" => echo },
    conns = 16,
    buffers = 64 x 4 KiB,
    pin = off,
}

/// The threads of this process by the begin of their name.
fn threads_named(name: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc/self/task").expect("there is /proc");
    all.filter_map(|entry| {
        let path = entry.ok()?.path();
        let comm = std::fs::read_to_string(path.join("comm")).ok()?;
        let number = path.file_name()?.to_str()?.parse().ok()?;
        comm.starts_with(name).then_some(number)
    })
    .collect()
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn nothing(_: i32) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn interrupted_system_calls_disturb_nobody() {
    // Without SA_RESTART, so that every call that can be interrupted is.
    // SAFETY: zero is a value of this plain data; the handler only adds to an atomic.
    let set = unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, core::ptr::null_mut())
    };
    assert_eq!(set, 0);
    let pool = Storm::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let workers = threads_named("Storm-");
    assert_eq!(workers.len(), 2);
    let bytes = pattern(60_001);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for worker in &workers {
                    // SAFETY: sends a signal that has a handler to a thread of this process.
                    unsafe {
                        libc::syscall(libc::SYS_tgkill, libc::getpid(), *worker, libc::SIGUSR1)
                    };
                }
                thread::sleep(Duration::from_micros(300));
            }
        });
        let clients: Vec<_> = (1..=8)
            .map(|seed| {
                let bytes = &bytes;
                scope.spawn(move || {
                    let mut random = Random(0x1234_5678_9abc_def1 ^ seed << 20);
                    for _ in 0..scaled(40) {
                        live(addr, &mut random, bytes);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("every client is served");
        }
        until("there were signals", || SIGNALS.load(Ordering::Relaxed) > 10);
        // The last ones come while the pool stops.
        pool.stop();
        until("the workers end", || threads_named("Storm-").is_empty());
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(sum(&pool, |s| s.failures), 0);
    assert_eq!(sum(&pool, |s| s.accept_errors), 0);
    pool.join().expect("ends");
    let again = Storm::start().expect("nothing was held");
    ends_empty(again);
}

// ---- stops ----

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Answers each request of 8 bytes, in two pieces.
async fn answer(mut conn: net::TcpStream) -> Result {
    let core = conn.core();
    let mut request = core.buf().await?;
    loop {
        while request.len() < 8 {
            // The first part of a request is waited for as idle time; none is cut in the middle.
            if request.is_empty() {
                let Some(data) = conn.recv_idle().await? else {
                    return Ok(());
                };
                request.put(&data)?;
            } else if conn.recv_into(&mut request).await? == 0 {
                return Ok(());
            }
        }
        TAKEN.fetch_add(1, Ordering::SeqCst);
        core.sleep(Duration::from_millis(1)).await;
        conn.push_copy(&request[..4]).await?;
        conn.flush().await?;
        conn.send_copy(&request[4..8]).await?;
        request.consume(8);
        request.compact();
    }
}

kio::pool! {
    struct Answers;
    workers = 2,
    listen = { "127.0.0.1:0" => answer },
    conns = 64,
    buffers = 256 x 4 KiB,
    pin = off,
}

#[test]
fn a_stop_under_load_answers_every_request_that_was_taken() {
    let pool = Answers::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let answered = AtomicU64::new(0);
    thread::scope(|scope| {
        for id in 0..16u64 {
            let answered = &answered;
            scope.spawn(move || {
                let mut peer = client(addr);
                for n in 0.. {
                    let request = (id << 32 | n).to_be_bytes();
                    let mut got = [0; 8];
                    if peer.write_all(&request).is_err() {
                        return;
                    }
                    match peer.read_exact(&mut got) {
                        Ok(()) => assert_eq!(got, request),
                        Err(error) => {
                            assert_ne!(error.kind(), ErrorKind::WouldBlock, "a hang");
                            return;
                        }
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        until("all are connected", || sum(&pool, |s| s.accepted) == 16);
        until("there is load", || answered.load(Ordering::SeqCst) > scaled(500) as u64);
        pool.stop();
    });
    pool.join().expect("ends");
    assert_eq!(TAKEN.load(Ordering::SeqCst), answered.load(Ordering::SeqCst));
    ends_empty(Answers::start().expect("starts again"));
}

/// Answers one request; slow enough that others wait.
async fn answer_one(mut conn: net::TcpStream) -> Result {
    let core = conn.core();
    core.sleep(Duration::from_millis(1)).await;
    if let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    Ok(())
}

kio::pool! {
    struct Backlog;
    listen = { "127.0.0.1:0" => answer_one },
    tasks = { answer_one: 4 },
    conns = 16,
    buffers = 16 x 4 KiB,
    pin = off,
}

#[test]
fn requests_in_the_backlog_are_answered_after_a_stop() {
    let pool = Backlog::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let mut peers: Vec<_> = (0..scaled(64)).map(|_| client(addr)).collect();
    for peer in &mut peers {
        peer.write_all(b"hello").expect("sends");
    }
    pool.stop();
    let mut lost = 0;
    for peer in &mut peers {
        let mut got = [0; 5];
        match peer.read_exact(&mut got) {
            Ok(()) => assert_eq!(&got, b"hello"),
            Err(error) => {
                lost += 1;
                println!("{error}");
            }
        }
    }
    pool.join().expect("ends");
    assert_eq!(lost, 0, "of {} requests", peers.len());
    ends_empty(Backlog::start().expect("starts again"));
}

kio::pool! {
    struct Prompt;
    listen = { "127.0.0.1:0" => echo },
    conns = 16,
    buffers = 16 x 4 KiB,
    pin = off,
    drain = 60 s,
}

#[test]
fn a_stop_beside_a_connect_does_not_wait_for_the_drain_to_end() {
    for round in 0..scaled(200) {
        let pool = Prompt::start().expect("starts");
        let addr = pool.local_addr().expect("listens");
        let peer = client(addr);
        // At another moment of the accept each time.
        for _ in 0..round * 37 {
            std::hint::spin_loop();
        }
        let begun = Instant::now();
        pool.stop();
        pool.join().expect("ends");
        assert!(begun.elapsed() < Duration::from_secs(30), "the whole drain, in round {round}");
        drop(peer);
    }
}

/// Connects and is never answered.
async fn connect_for_ever(core: kio::Core, addr: SocketAddr) -> Result {
    core.connect(addr).await.map(drop)
}

async fn receive_for_ever(mut conn: net::TcpStream) -> Result {
    conn.recv().await.map(drop)
}

/// A stream's two ends, each with a thing that never ends.
async fn both_for_ever(conn: net::TcpStream) -> Result {
    let (mut recv, mut send) = conn.into_split();
    let core = recv.core();
    let spawned = core.spawn(move || async move { recv.recv().await.map(drop) });
    drop(spawned);
    loop {
        send.send(&CHUNK[..]).await?;
    }
}

kio::pool! {
    struct Stuck;
    listen = {
        "127.0.0.1:0" => both_for_ever,
        "127.0.0.2:0" => receive_for_ever,
    },
    tasks = { connect_for_ever: 8, receive_for_ever: 8, both_for_ever: 8 },
    conns = 32,
    buffers = 32 x 4 KiB,
    pin = off,
    drain = 1 s,
}

/// A listener whose backlog is full: who connects waits.
fn full_backlog() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // SAFETY: the descriptor is the listener's.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let addr = listener.local_addr().expect("bound");
    let mut inside = Vec::new();
    while let Ok(peer) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        inside.push(peer);
        assert!(inside.len() < 100, "the backlog is never full");
    }
    (listener, inside)
}

#[test]
fn a_stop_ends_what_would_never_end_within_the_drain() {
    let (listener, inside) = full_backlog();
    let full = listener.local_addr().expect("bound");
    let pool = Stuck::start().expect("starts");
    for _ in 0..8 {
        pool.on(0, async move |worker: kio::Worker<Stuck>| {
            let core = worker.core();
            worker.spawn(move || connect_for_ever(core, full)).map(drop).map_err(|_| "no slot")
        })
        .expect("runs")
        .expect("there is a slot");
    }
    let addr = pool.local_addr().expect("listens");
    let peers: Vec<_> = (0..4).map(|_| client(addr)).collect();
    until("the sends are stuck", || {
        let sent = sum(&pool, |s| s.sent);
        thread::sleep(Duration::from_millis(50));
        sum(&pool, |s| s.open) == 4 && sent == sum(&pool, |s| s.sent)
    });
    let begun = Instant::now();
    pool.stop();
    pool.join().expect("ends");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900), "no drain: {took:?}");
    assert!(took < Duration::from_secs(20), "past the drain: {took:?}");
    drop((peers, inside));
    ends_empty(Stuck::start().expect("nothing was held"));
}

#[test]
fn a_second_stop_ends_the_drain() {
    kio::pool! {
        struct Patient;
        listen = { "127.0.0.1:0" => receive_for_ever },
        conns = 8,
        buffers = 8 x 4 KiB,
        pin = off,
        drain = 100 s,
    }
    let pool = Patient::start().expect("starts");
    let peer = client(pool.local_addr().expect("listens"));
    until("it is accepted", || sum(&pool, |s| s.open) == 1);
    pool.stop();
    pool.stop();
    pool.join().expect("ends");
    drop(peer);
    ends_empty(Patient::start().expect("nothing was held"));
}

kio::pool! {
    struct Wide;
    listen = { "127.0.0.1:0" => swallow },
    conns = 6000,
    buffers = 128 x 4 KiB,
    pin = off,
    drain = 10 ms,
}

/// More clients than the usual limit of descriptors allows.
fn allow_descriptors(need: usize) -> bool {
    // SAFETY: both calls read or write one `rlimit`.
    unsafe {
        let mut limit: libc::rlimit = core::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        limit.rlim_max >= need as u64
    }
}

#[test]
fn thousands_of_open_connections_end_with_the_pool() {
    let peers = scaled(6000);
    if !allow_descriptors(peers + 500) {
        println!("skipped: it takes {peers} descriptors");
        return;
    }
    let pool = Wide::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let peers: Vec<_> = (0..peers).map(|_| client(addr)).collect();
    until("all are accepted", || sum(&pool, |s| s.open) == peers.len() as u64);
    pool.stop();
    pool.join().expect("ends");
    Wide::start().expect("nothing was held");
    drop(peers);
}

// ---- what is never given back ----

async fn leak_stream(conn: net::TcpStream) {
    Box::leak(Box::new(conn));
}

#[test]
fn a_leaked_stream_is_told_of_at_the_next_start() {
    kio::pool! {
        struct LeakedStream;
        listen = { "127.0.0.1:0" => leak_stream },
        conns = 8,
        buffers = 8 x 4 KiB,
        pin = off,
        drain = 10 ms,
    }
    let pool = LeakedStream::start().expect("starts");
    let mut peer = client(pool.local_addr().expect("listens"));
    until("it is accepted", || sum(&pool, |s| s.accepted) == 1);
    let held = retired(pool);
    assert_eq!(held.sockets, 1, "{held:?}");
    // It is closed all the same.
    assert_eq!(peer.read(&mut [0]).expect("the end"), 0);
}

async fn leak_halves(conn: net::TcpStream) {
    let (recv, send) = conn.into_split();
    Box::leak(Box::new(recv));
    drop(send);
}

#[test]
fn a_leaked_half_is_told_of_at_the_next_start() {
    kio::pool! {
        struct LeakedHalf;
        listen = { "127.0.0.1:0" => leak_halves },
        conns = 8,
        buffers = 8 x 4 KiB,
        pin = off,
        drain = 10 ms,
    }
    let pool = LeakedHalf::start().expect("starts");
    let mut peer = client(pool.local_addr().expect("listens"));
    assert_eq!(peer.read(&mut [0]).expect("the send half's end"), 0);
    let held = retired(pool);
    assert_eq!(held.sockets, 1, "{held:?}");
}

async fn leak_buffer(mut conn: net::TcpStream) -> Result {
    if let Some(data) = conn.recv().await? {
        Box::leak(Box::new(data.slice(1..)));
    }
    Ok(())
}

#[test]
fn a_leaked_buffer_is_told_of_at_the_next_start() {
    kio::pool! {
        struct LeakedBuf;
        listen = { "127.0.0.1:0" => leak_buffer },
        conns = 8,
        buffers = 8 x 4 KiB,
        pin = off,
    }
    let pool = LeakedBuf::start().expect("starts");
    let mut peer = client(pool.local_addr().expect("listens"));
    peer.write_all(b"hello").expect("sends");
    assert_eq!(peer.read(&mut [0]).expect("the end"), 0);
    let held = retired(pool);
    assert_eq!(held, Held { buffers: 1, ..Held::default() });
}

async fn leak_handle(conn: net::TcpStream) -> Result {
    let spawned = conn.core().spawn(|| async {});
    if let Ok(handle) = spawned {
        Box::leak(Box::new(handle));
    }
    Ok(())
}

#[test]
fn a_leaked_join_handle_is_told_of_at_the_next_start() {
    kio::pool! {
        struct LeakedHandle;
        listen = { "127.0.0.1:0" => leak_handle },
        conns = 8,
        buffers = 8 x 4 KiB,
        pin = off,
    }
    let pool = LeakedHandle::start().expect("starts");
    let mut peer = client(pool.local_addr().expect("listens"));
    assert_eq!(peer.read(&mut [0]).expect("the end"), 0);
    let held = retired(pool);
    assert_eq!(held, Held { tasks: 1, ..Held::default() });
}

mod hidden {
    //! Handles in a thread-local of the worker: dropped when the thread ends, after its worker.

    use super::*;
    use std::cell::RefCell;

    type Things = (net::TcpStream, Option<kio::Buf>, kio::JoinHandle<()>);

    /// Says what its handles answer once the thread ends.
    struct Late(RefCell<Option<Things>>);

    static TOLD: std::sync::Mutex<Option<mpsc::Sender<bool>>> = std::sync::Mutex::new(None);

    impl Drop for Late {
        fn drop(&mut self) {
            let Some((mut conn, buf, task)) = self.0.take() else {
                return;
            };
            let core = conn.core();
            let refused = conn.try_push("late").is_err()
                && core.try_buf().is_none()
                && conn.peer_addr() == Err(Error::Stopped)
                && core.spawn(|| async {}).is_err()
                && core.is_stopping();
            // What it points to is there for as long as the handle is.
            let intact = buf.as_deref() == Some(b"hello");
            drop((conn, buf, task));
            let told = TOLD.lock().expect("no panic before");
            let told = told.as_ref().expect("the test waits");
            told.send(refused && intact).expect("the test waits");
        }
    }

    thread_local! {
        static LATE: Late = const { Late(RefCell::new(None)) };
    }

    async fn hide(mut conn: net::TcpStream) -> Result {
        let buf = conn.recv().await?;
        let Ok(task) = conn.core().spawn(|| async {}) else {
            return Err(Error::Other("no slot"));
        };
        LATE.with(|late| *late.0.borrow_mut() = Some((conn, buf, task)));
        Ok(())
    }

    #[test]
    fn handles_in_a_thread_local_answer_stopped_and_are_told_of_at_the_next_start() {
        kio::pool! {
            struct Hidden;
            listen = { "127.0.0.1:0" => hide },
            conns = 8,
            buffers = 8 x 4 KiB,
            pin = off,
            drain = 10 ms,
        }
        let (tell, told) = mpsc::channel();
        *TOLD.lock().expect("no panic before") = Some(tell);
        let pool = Hidden::start().expect("starts");
        let mut peer = client(pool.local_addr().expect("listens"));
        peer.write_all(b"hello").expect("sends");
        until("it is hidden", || sum(&pool, |s| s.received) == 5);
        let held = retired(pool);
        assert_eq!((held.sockets, held.tasks, held.buffers), (1, 1, 1));
        assert!(told.recv().expect("the thread has ended"));
    }
}

// ---- several at once ----

#[test]
fn a_pool_may_run_again_and_again() {
    kio::pool! {
        struct Repeated;
        workers = 2,
        listen = { "127.0.0.1:0" => echo },
        conns = 8,
        buffers = 8 x 4 KiB,
        pin = off,
    }
    let mut ports = HashMap::new();
    for _ in 0..scaled(50) {
        let pool = Repeated::start().expect("starts");
        let addr = pool.local_addr().expect("listens");
        *ports.entry(addr.port()).or_insert(0) += 1;
        let mut peer = client(addr);
        peer.write_all(b"hello").expect("sends");
        let mut got = [0; 5];
        peer.read_exact(&mut got).expect("echoes");
        assert_eq!(&got, b"hello");
        if ports.len() % 2 == 0 {
            drop(pool);
        } else {
            pool.stop();
            pool.join().expect("ends");
        }
    }
}
