//! Ten thousand handshakes in one run: of both versions, full and resumed, some given up in the middle,
//! by every data path there is. Afterwards all is where it was: connections, buffers, tasks, the
//! kernel's sessions, and the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use kio::net::{ConnectOptions, ListenOptions, Listener};
use kio::tls::{Mode, TlsAcceptor, TlsConnector};
use kio::{Core, JoinHandle, Worker};
use kio_tests::tls::{
    Authority, Choice, NAME, Stage, VERSIONS, assert_by_kernel, kernel_now, kernel_sessions, modes,
    path_of,
};
use kio_tests::{HANG, poll_then_drop, scaled, yield_now};
use rustls::SupportedProtocolVersion;
use rustls::client::Resumption;
use rustls::crypto::ring::Ticketer;
use rustls::server::NoServerSessionStorage;

/// Handshakes in all.
const HANDSHAKES: usize = 10_000;
/// After how many of them everything that is made once is made.
const WARM: usize = 2_000;
/// Of so many handshakes one is given up, at another point each time.
const GIVEN_UP: usize = 10;
/// What the heap may differ by: tickets are longer or shorter. One byte lost each handshake is more.
const SLACK: i64 = 4096;

/// The system's allocator, which counts the bytes that are out.
struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize, sign: i64) {
    LIVE.fetch_add(sign * bytes as i64, Ordering::Relaxed);
}

// SAFETY: every call goes on to the system's allocator, as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

kio::pool! {
    struct Many;
    entry = idle,
    spawn = 16 x 16 KiB,
    calls = 4 x 64 KiB,
    conns = 32,
    buffers = 64 x 16 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// One kind of handshake: a server and a client that make nothing else, one after another.
#[derive(Clone)]
struct Lane {
    mode: Mode,
    resumes: bool,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Lane {
    fn new(mode: Mode, version: &'static SupportedProtocolVersion, resumes: bool) -> Self {
        let authority = Authority::new();
        let choice = Choice::version(version);
        let mut server = choice.server(&authority.issue(NAME));
        let mut client = choice.client(&authority);
        // Sessions are in the tickets, not in a store, which now and then makes itself more room.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        match resumes {
            true => server.ticketer = Ticketer::new().expect("keys"),
            false => client.resumption = Resumption::disabled(),
        }
        Self {
            mode,
            resumes,
            acceptor: TlsAcceptor::new(Arc::new(server), mode).expect("the mode is there"),
            connector: TlsConnector::new(Arc::new(client), mode).expect("the mode is there"),
        }
    }

    async fn serve(self, mut listener: Listener, times: usize) -> kio::Result<()> {
        for i in 0..times {
            let shaken = self.acceptor.accept(listener.accept().await?).await;
            let served = async {
                let mut conn = shaken?;
                while let Some(data) = conn.recv().await? {
                    conn.send(data).await?;
                }
                conn.close().await
            };
            let served = served.await;
            assert!(served.is_ok() || i % GIVEN_UP == 1, "{:?}: {served:?}", self.mode);
        }
        Ok(())
    }

    /// Tells how many handshakes resumed a session.
    async fn ask(self, core: Core, addr: SocketAddr, times: usize) -> kio::Result<usize> {
        let mut resumed = 0;
        for i in 0..times {
            let tcp = core.connect_with(addr, ConnectOptions::new().real_fd()).await?;
            let shaking = self.connector.connect(NAME, tcp);
            if i % GIVEN_UP == 1 {
                drop(poll_then_drop(1 + i / GIVEN_UP % 5, shaking).await);
                continue;
            }
            let mut conn = shaking.await?;
            assert_eq!(conn.data_path(), path_of(self.mode));
            resumed += usize::from(conn.info().resumed());
            conn.send("hello").await?;
            assert_eq!(conn.recv().await?.as_deref(), Some(&b"hello"[..]));
            conn.shutdown().await?;
            assert!(conn.recv().await?.is_none());
            conn.close().await?;
        }
        Ok(resumed)
    }
}

/// What is in use: each table of the worker, the kernel's sessions, bytes of the heap.
#[derive(PartialEq, Debug)]
struct Held {
    tables: Vec<(&'static str, u64)>,
    kernel: [u64; 2],
}

fn held(core: Core) -> Held {
    let tables = core.usage().map(|usage| (usage.name, usage.used)).collect();
    Held { tables, kernel: kernel_now() }
}

/// So many handshakes of every kind at once; then waits until the last connection is closed.
async fn shake(worker: Worker<Many>, lanes: &[Lane], times: usize, idle: &Held) -> i64 {
    let core = worker.core();
    let mut servers: Vec<JoinHandle<_>> = Vec::new();
    let mut clients: Vec<JoinHandle<_>> = Vec::new();
    for (i, lane) in (1u8..).zip(lanes) {
        // An address each: a port that is listened on twice is shared.
        let (own, options) =
            (SocketAddr::from(([127, 0, 0, i], 0)), ListenOptions::new().real_fds());
        let listener = core.listen_with(own, options).await.expect("a free port");
        let addr = listener.local_addr().expect("it listens");
        let (server, client) = (lane.clone(), lane.clone());
        servers.push(core.spawn(move || server.serve(listener, times)).expect("room"));
        clients.push(core.spawn(move || client.ask(core, addr, times)).expect("room"));
    }
    for (lane, client) in lanes.iter().zip(clients) {
        let resumed = client.await.expect("it ends").expect("no error");
        let least = if lane.resumes { times - times.div_ceil(GIVEN_UP) - 1 } else { 0 };
        assert!(resumed >= least && (lane.resumes || resumed == 0), "{resumed} of {times}");
    }
    for server in servers {
        server.await.expect("it ends").expect("no error");
    }
    let began = Instant::now();
    while held(core) != *idle {
        assert!(began.elapsed() < HANG, "{:?} where it was {idle:?}", held(core));
        yield_now().await;
    }
    LIVE.load(Ordering::Relaxed)
}

#[test]
fn ten_thousand_handshakes_leave_everything_where_it_was() {
    let mut lanes = Vec::new();
    for mode in modes() {
        for version in VERSIONS {
            lanes.extend([false, true].map(|resumes| Lane::new(mode, version, resumes)));
        }
    }
    let by_kernel = lanes.iter().filter(|lane| lane.mode == Mode::Require).count();
    let each = |n: usize| (scaled(n) / lanes.len()).max(2 * GIVEN_UP);
    let (warm, rest) = (each(WARM), each(HANDSHAKES - WARM));
    let before = kernel_sessions();
    let began = Instant::now();
    let all = lanes.len() * (warm + rest);
    let (first, last) = Many::on_worker(async move |worker: Worker<Many>| {
        let idle = held(worker.core());
        let first = shake(worker, &lanes, warm, &idle).await;
        (first, shake(worker, &lanes, rest, &idle).await)
    });
    println!("{all} handshakes in {:?}; the heap: {first}, then {last} bytes", began.elapsed());
    // Both ends are the kernel's, and a part of them was given up.
    let whole = (warm + rest) * (GIVEN_UP - 1) / GIVEN_UP;
    assert_by_kernel(before, (2 * by_kernel * whole) as u64);
    assert!((last - first).abs() <= SLACK, "{first} bytes, and then {last}");
}
