//! Clients that mean harm, each with little of its own: they may cost themselves their connection,
//! and nobody else more than the stall time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use kio::{Error, Handle, Stats, net};
use kio_tests::{HANG, client, scaled};

type Result<T = ()> = kio::Result<T>;

// ---- what the tests share ----

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
    assert_eq!(sum(&pool, |s| s.panics), 0, "a task panicked");
    pool.stop();
    pool.join().expect("no entry failed");
    let again = kio::__private::start::<P>(()).expect("empty, so it starts again");
    again.stop();
    again.join().expect("the second run ends");
}

/// A client whose kernel takes next to nothing for it: what it does not read stays with the server.
fn narrow(addr: SocketAddr) -> TcpStream {
    let SocketAddr::V4(to) = addr else {
        panic!("the tests listen on IPv4");
    };
    // SAFETY: plain system calls on a descriptor that is owned from its first line on; the option
    // and the address are read during the call.
    let connected = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "a descriptor");
        let fd = OwnedFd::from_raw_fd(fd);
        let size = 4096;
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const size).cast(),
            size_of::<i32>() as u32,
        );
        let to = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: to.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
            sin_zero: [0; 8],
        };
        let size = size_of::<libc::sockaddr_in>() as u32;
        assert_eq!(libc::connect(fd.as_raw_fd(), (&raw const to).cast(), size), 0);
        TcpStream::from(fd)
    };
    connected.set_read_timeout(Some(HANG)).expect("above zero");
    connected
}

// ---- small pieces ----

/// A request ends with a line's end; its parts are gathered in one buffer.
async fn gather(mut conn: net::TcpStream) -> Result {
    let core = conn.core();
    let Some(mut first) = conn.recv_idle().await? else {
        return Ok(());
    };
    let mut request = core.buf().await?;
    request.put(&first)?;
    drop(std::mem::replace(&mut first, request.freeze()));
    let Ok(mut request) = first.try_mut() else {
        return Err(Error::Other("it was shared"));
    };
    loop {
        if request.ends_with(b"\n") {
            conn.send_copy(&request).await?;
            request.clear();
        }
        if conn.recv_into(&mut request).await? == 0 {
            return Ok(());
        }
    }
}

kio::pool! {
    #[allow(deprecated)] // the declaration warns of just what is tested
    struct Gather;
    listen = { "127.0.0.1:0" => gather },
    conns = 1100,
    buffers = 1280 x 4 KiB,
    window = 1,
    pin = off,
}

/// Keeps the first piece for the whole request, as a parser does that borrows from it.
async fn keep_first(mut conn: net::TcpStream) -> Result {
    while let Some(first) = conn.recv_idle().await? {
        let mut ended = first.ends_with(b"\n");
        while !ended {
            match conn.recv().await? {
                Some(next) => ended = next.ends_with(b"\n"),
                None => return Ok(()),
            }
        }
        conn.send(first).await?;
    }
    Ok(())
}

kio::pool! {
    #[allow(deprecated)] // the declaration warns of just what is tested
    struct KeepFirst;
    listen = { "127.0.0.1:0" => keep_first },
    conns = 1100,
    buffers = 1280 x 4 KiB,
    window = 1,
    pin = off,
}

/// A thousand clients stop after two segments of one byte; the others notice nothing.
fn others_are_served(pool: &Handle<impl kio::__private::Pool>) {
    let addr = pool.local_addr().expect("listens");
    let mut slow: Vec<_> = (0..scaled(1024)).map(|_| client(addr)).collect();
    for sent in 1..=2 {
        for peer in &mut slow {
            peer.write_all(b"G").expect("sends");
        }
        until("the bytes arrive", || sum(pool, |s| s.received) == (slow.len() * sent) as u64);
    }
    for _ in 0..scaled(200) {
        let mut peer = client(addr);
        for _ in 0..3 {
            peer.write_all(b"hello\n").expect("sends");
            let mut got = [0; 6];
            peer.read_exact(&mut got).expect("is served");
            assert_eq!(&got, b"hello\n");
        }
    }
    assert_eq!(sum(pool, |s| s.stalled), 0, "there were buffers for all");
    assert!(sum(pool, |s| s.open) >= slow.len() as u64);
}

#[test]
fn a_thousand_that_send_two_bytes_and_stop_are_gathered_and_harm_nobody() {
    let pool = Gather::start().expect("starts");
    others_are_served(&pool);
    ends_empty(pool);
}

#[test]
fn a_thousand_that_send_two_bytes_and_stop_keep_a_buffer_each_and_harm_nobody() {
    let pool = KeepFirst::start().expect("starts");
    others_are_served(&pool);
    ends_empty(pool);
}

/// Fewer buffers than attackers: they hold all of them.
#[test]
fn who_holds_the_last_buffers_and_stops_is_reset_once_others_wait() {
    kio::pool! {
        #[allow(deprecated)] // the declaration warns of just what is tested
        struct Outnumbered;
        listen = { "127.0.0.1:0" => keep_first },
        conns = 300,
        buffers = 64 x 4 KiB,
        window = 1,
        pin = off,
        stall = 500 ms,
    }
    let pool = Outnumbered::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let mut slow: Vec<_> = (0..100).map(|_| client(addr)).collect();
    for peer in &mut slow {
        peer.write_all(b"G").expect("sends");
    }
    until("the buffers are out", || sum(&pool, |s| s.enobufs) > 0);
    for _ in 0..5 {
        let mut peer = client(addr);
        peer.write_all(b"hello\n").expect("sends");
        let mut got = [0; 6];
        peer.read_exact(&mut got).expect("is served in the end");
        assert_eq!(&got, b"hello\n");
    }
    assert!(sum(&pool, |s| s.stalled) > 0);
    drop(slow);
    ends_empty(pool);
}

// ---- replies that nobody reads ----

/// What became of those who asked for much.
static ENDS: Mutex<Vec<Error>> = Mutex::new(Vec::new());

/// Tests whose clients ask `reply` go one after another: they share the list of how its tasks ended.
fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Answers each request: `B` with more than any kernel takes, in buffers; else with an echo.
async fn reply(mut conn: net::TcpStream) -> Result {
    let core = conn.core();
    while let Some(data) = conn.recv_idle().await? {
        if data[0] != b'B' {
            conn.send(data).await?;
            continue;
        }
        drop(data);
        loop {
            let mut part = core.buf().await?;
            part.put(&[b'b'; 4096])?;
            if let Err(error) = conn.push(part).await {
                ENDS.lock().expect("no panic before").push(error);
                return Err(error);
            }
        }
    }
    Ok(())
}

kio::pool! {
    #[allow(deprecated)] // the declaration warns of just what is tested
    struct Replies;
    listen = { "127.0.0.1:0" => reply },
    conns = 1100,
    buffers = 256 x 4 KiB,
    outbox = 8,
    pin = off,
    stall = { STALL },
}

/// How long others may wait for buffers. No claim about speed: far more than an answer takes.
const STALL: Duration = Duration::from_secs(5);

/// So many ask for much and never read. Other clients are served all the same, within the stall time:
/// what is kept for receives no reply can hold.
fn never_read(hogs: usize) {
    let _turn = turn();
    let pool = Replies::start_when_free().expect("starts");
    ENDS.lock().expect("no panic").clear();
    let addr = pool.local_addr().expect("listens");
    let mut hogs: Vec<_> = (0..hogs).map(|_| narrow(addr)).collect();
    for hog in &mut hogs {
        hog.write_all(b"B").expect("asks");
    }
    until("they are missed", || sum(&pool, |s| s.buffer_waits) > 0);
    for _ in 0..3 {
        let mut peer = client(addr);
        let begun = Instant::now();
        peer.write_all(b"hello").expect("sends");
        let mut got = [0; 5];
        peer.read_exact(&mut got).expect("is served");
        assert_eq!(&got, b"hello");
        let took = begun.elapsed();
        assert!(took < STALL, "served after {took:?}");
    }
    until("hogs are reset", || sum(&pool, |s| s.stalled) > 0);
    until("they learn of it", || !ENDS.lock().expect("no panic").is_empty());
    let ends = std::mem::take(&mut *ENDS.lock().expect("no panic"));
    assert!(ends.iter().all(|end| *end == Error::Stalled), "{ends:?}");
    drop(hogs);
    ends_empty(pool);
}

#[test]
fn who_never_reads_a_reply_is_reset_and_the_others_served() {
    never_read(40); // 32 hold all buffers, 8 each
}

#[test]
fn a_thousand_that_never_read_a_reply_do_not_keep_the_others_waiting() {
    never_read(scaled(1024));
}

/// Peers that send and never read pin what they sent, up to their windows: a stall ends those that hold
/// buffers, and the next in line, who are no better, have an eighth of its time.
#[test]
fn a_thousand_that_never_read_their_echo_do_not_keep_the_others_waiting_for_long() {
    kio::pool! {
        #[allow(deprecated)] // the declaration warns of just what is tested
        struct Echoes;
        listen = { "127.0.0.1:0" => echo },
        conns = 1100,
        buffers = 256 x 4 KiB,
        pin = off,
        stall = 2 s,
    }
    let pool = Echoes::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let mut hogs: Vec<_> = (0..scaled(1024)).map(|_| narrow(addr)).collect();
    for hog in &mut hogs {
        hog.set_nonblocking(true).expect("a socket");
        while hog.write(&[b'h'; 16384]).is_ok() {}
    }
    until("they are missed", || {
        for hog in &mut hogs {
            while hog.write(&[b'h'; 16384]).is_ok() {}
        }
        sum(&pool, |s| s.enobufs) > 0
    });
    for _ in 0..3 {
        let mut peer = client(addr);
        let begun = Instant::now();
        peer.write_all(b"hello").expect("sends");
        let mut got = [0; 5];
        peer.read_exact(&mut got).expect("is served");
        assert_eq!(&got, b"hello");
        // Twice the stall time at most, on a machine that does nothing else.
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "served after {took:?}");
    }
    drop(hogs);
    ends_empty(pool);
}

async fn echo(mut conn: net::TcpStream) -> Result {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    Ok(())
}

/// A byte now and then is no sign of life of one who reads nothing.
#[test]
fn who_never_reads_a_reply_is_reset_though_it_sends() {
    kio::pool! {
        #[allow(deprecated)] // the declaration warns of just what is tested
        struct Dripping;
        listen = { "127.0.0.1:0" => reply },
        conns = 32,
        buffers = 64 x 4 KiB,
        outbox = 8,
        pin = off,
        stall = 1 s,
    }
    let _turn = turn();
    let pool = Dripping::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let mut hogs: Vec<_> = (0..16).map(|_| narrow(addr)).collect();
    for hog in &mut hogs {
        hog.write_all(b"B").expect("asks");
    }
    until("all are reset but those that the store holds", || {
        thread::sleep(Duration::from_millis(20));
        for hog in &mut hogs {
            let _ = hog.write(b"b");
        }
        sum(&pool, |s| s.stalled) >= 8
    });
    drop(hogs);
    ends_empty(pool);
}

/// Replies in parts, each of which has its share of the buffers and waits for the next, would wait for
/// each other.
#[test]
fn parts_that_are_pushed_go_out_when_buffers_are_short() {
    async fn parts(mut conn: net::TcpStream) -> Result {
        let core = conn.core();
        while let Some(data) = conn.recv_idle().await? {
            drop(data);
            for _ in 0..6 {
                let mut part = core.buf().await?;
                part.put(&[b'p'; 100])?;
                conn.push(part).await?;
            }
            conn.flush().await?;
        }
        Ok(())
    }
    kio::pool! {
        #[allow(deprecated)] // the declaration warns of just what is tested
        struct Parts;
        listen = { "127.0.0.1:0" => parts },
        conns = 32,
        buffers = 8 x 4 KiB,
        window = 1,
        pin = off,
        stall = 3600 s,
    }
    let pool = Parts::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    let mut peers: Vec<_> = (0..16).map(|_| client(addr)).collect();
    for _ in 0..scaled(50) {
        for peer in &mut peers {
            peer.write_all(b"?").expect("asks");
        }
        for peer in &mut peers {
            peer.read_exact(&mut [0; 600]).expect("the whole reply");
        }
    }
    drop(peers);
    ends_empty(pool);
}

// ---- time ----

/// Waits at most so long for each piece, and so long for the whole request.
async fn hurried(mut conn: net::TcpStream) -> Result {
    conn.set_recv_timeout(Some(Duration::from_millis(200)));
    let core = conn.core();
    let mut request = core.buf().await?;
    let whole = core.timeout(Duration::from_millis(600), async {
        while !request.ends_with(b"\n") {
            if conn.recv_into(&mut request).await? == 0 {
                return Ok(false);
            }
        }
        Result::Ok(true)
    });
    if whole.await?? {
        conn.send(request).await?;
    }
    Ok(())
}

#[test]
fn who_sends_a_byte_now_and_then_is_cut_off() {
    kio::pool! {
        struct Hurried;
        listen = { "127.0.0.1:0" => hurried },
        conns = 64,
        buffers = 64 x 4 KiB,
        pin = off,
    }
    let pool = Hurried::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    thread::scope(|scope| {
        for n in 0..16u64 {
            scope.spawn(move || {
                // Slower than a piece may be, or just fast enough, and then the whole is too slow.
                let pause = Duration::from_millis(if n.is_multiple_of(2) { 1000 } else { 100 });
                let mut peer = client(addr);
                for _ in 0..HANG.as_millis() / pause.as_millis() {
                    if peer.write_all(b"G").is_err() {
                        return;
                    }
                    peer.set_read_timeout(Some(pause)).expect("above zero");
                    match peer.read(&mut [0]) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        // The end, or a reset where a byte came too late.
                        Ok(0) | Err(_) => return,
                        Ok(_) => panic!("an answer to half a request"),
                    }
                }
                panic!("never cut off");
            });
        }
        for _ in 0..scaled(100) {
            let mut peer = client(addr);
            peer.write_all(b"hello\n").expect("sends");
            let mut got = Vec::new();
            peer.read_to_end(&mut got).expect("is served");
            assert_eq!(got, b"hello\n");
        }
    });
    until("all are cut off", || sum(&pool, |s| s.open) == 0);
    assert_eq!(sum(&pool, |s| s.routine_failures), 16);
    assert_eq!(sum(&pool, |s| s.failures), 0);
    ends_empty(pool);
}
