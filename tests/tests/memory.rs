//! What kio promises of memory: nothing is allocated while it runs, and what is declared is neither
//! in the program's file nor resident before it is used.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kio::net::{ListenOptions, TcpStream};
use kio::{Core, Worker};
use kio_tests::{again, client, is_child, pattern, scaled, yield_now};

/// The system's allocator, which counts what workers ask of it.
struct Counting;

/// Allocations on threads that said they are workers.
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is a worker in its loop.
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that ends has no thread-locals left; it is no worker in its loop either.
    if WORKER.try_with(Cell::get) == Ok(true) {
        ALLOCATED.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: every call goes on to the system's allocator, as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

kio::pool! {
    struct Quiet;
    workers = 2,
    pin = off,
    entry = serve,
    tasks = { echo: 32, tick: 1, kio::metrics::serve_on: 1 },
    calls = 64 x 512 B,
    conns = 64,
    buffers = 128 x 4 KiB,
}

async fn serve(worker: Worker<Quiet>) -> kio::Result<()> {
    // From here to the thread's end.
    WORKER.set(true);
    drop(worker.spawn(move || tick(worker.core()))?);
    let metrics = ([127, 0, 0, 2], 0).into();
    drop(worker.spawn(move || kio::metrics::serve_on(worker.core(), metrics))?);
    let options = ListenOptions::new();
    let mut listener = worker.listen_with("127.0.0.1:0", options).await?;
    loop {
        let place = worker.reserve(echo).await?;
        let conn = listener.accept().await?;
        place.spawn(move || echo(worker, conn));
    }
}

/// Connects, times out, spawns and joins for as long as the pool runs.
async fn tick(core: Core) -> kio::Result<()> {
    let mut interval = core.interval(Duration::from_millis(1));
    while !core.is_stopping() {
        interval.tick().await;
        let _ = core.timeout(Duration::from_micros(10), core.sleep(Duration::from_secs(1))).await;
        let unnamed = core.spawn(|| async { Ok::<u8, kio::Error>(1) })?;
        yield_now().await;
        let _ = unnamed.await;
        let refused = core.connect("127.0.0.1:1").await;
        drop(refused);
    }
    Ok(())
}

async fn echo(worker: Worker<Quiet>, mut conn: TcpStream) -> kio::Result<()> {
    conn.set_recv_timeout(Some(kio_tests::HANG));
    conn.set_send_timeout(Some(kio_tests::HANG));
    while let Some(data) = conn.recv_idle().await? {
        // Some as it came, some copied, some through a buffer of its own.
        let (first, rest) = data.split_at(data.len() / 2);
        conn.push_copy(first).await?;
        let mut buf = worker.buf().await?;
        let n = buf.put_some(rest);
        conn.push(buf).await?;
        conn.send(data.slice(data.len() / 2 + n..)).await?;
        let other = 1 - worker.index();
        assert_eq!(worker.on(other, async |worker| worker.index()).await?, other);
    }
    conn.close().await
}

fn load(addr: SocketAddr) {
    thread::scope(|scope| {
        for nth in 0..8 {
            scope.spawn(move || {
                for round in 0..scaled(40) {
                    let mut stream = client(addr);
                    let sent = &pattern(20_000)[..1 + (nth * 2_399 + round * 331) % 20_000];
                    let mut writer = stream.try_clone().expect("another handle");
                    thread::scope(|scope| {
                        scope.spawn(move || {
                            writer.write_all(sent).expect("the server reads");
                            writer.shutdown(Shutdown::Write).expect("connected");
                        });
                        let mut back = Vec::new();
                        stream.read_to_end(&mut back).expect("an orderly end");
                        assert!(back == sent);
                    });
                }
            });
        }
    });
}

#[test]
fn workers_allocate_nothing_from_their_entry_to_their_end() {
    let pool = Quiet::start().expect("starts");
    let addr = pool.local_addr().expect("it listens");
    load(addr);
    for nth in 0..scaled(200) {
        assert_eq!(pool.on(nth % 2, async move |_| nth), Ok(nth));
    }
    // Who listens on what was asked for joins, and is told the port.
    let join = async |worker: Worker<Quiet>| {
        worker.listen("127.0.0.2:0").await.and_then(|listener| listener.local_addr())
    };
    let metrics = pool.on(0, join).expect("it runs").expect("it listens");
    for _ in 0..scaled(20) {
        let mut page = String::new();
        let mut scraper = client(metrics);
        scraper.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it reads");
        scraper.read_to_string(&mut page).expect("a page");
        assert!(page.contains("\nkio_workers 2\n"));
    }
    // One is reset, one is idle, one is in the middle of a request when the pool stops.
    let mut streams = [client(addr), client(addr), client(addr)];
    streams[0].write_all(b"x").expect("the server reads");
    rustix::net::sockopt::set_socket_linger(&streams[0], Some(Duration::ZERO)).expect("TCP");
    streams[1].write_all(b"y").expect("the server reads");
    streams[1].read_exact(&mut [0; 1]).expect("the server answers");
    let [reset, ..] = streams;
    drop(reset);
    assert!(pool.stats().map(|stats| stats.accepted).sum::<u64>() > 0);
    pool.stop();
    pool.join().expect("a clean end");
    assert_eq!(ALLOCATED.load(Ordering::SeqCst), 0);
}

#[test]
fn the_allocator_counts_workers_only() {
    // In a process of its own, since the other tests look at the same count.
    if is_child() {
        drop(std::hint::black_box(vec![1]));
        assert_eq!(ALLOCATED.load(Ordering::SeqCst), 0);
        WORKER.set(true);
        drop(std::hint::black_box(vec![1]));
        WORKER.set(false);
        assert_eq!(ALLOCATED.load(Ordering::SeqCst), 1);
        return;
    }
    let child = again("the_allocator_counts_workers_only");
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

kio::pool! {
    struct Large;
    entry = idle,
    tasks = { idle_task: 10_000 },
    conns = 1024,
    buffers = 16_384 x 16 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

async fn idle_task(_: [u8; 4096]) {}

#[test]
fn declared_memory_is_not_in_the_program() {
    let declared = Large::FOOTPRINT.statics();
    assert!(declared > 256 << 20);
    let program = std::env::current_exe().expect("a test is a program");
    let file = std::fs::metadata(program).expect("it is there").len();
    assert!(file < declared / 2, "{file} bytes of file, {declared} declared");
}

/// Bytes of this process, by their name in `/proc/self/status`.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a procfs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("every kernel's");
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") << 10
}

#[test]
fn declared_memory_is_resident_only_where_it_was_used() {
    if is_child() {
        let before = status("VmRSS");
        let pool = Large::start().expect("starts");
        pool.on(0, async |worker: Worker<Large>| {
            for _ in 0..1000 {
                drop(worker.buf().await); // the same one, again and again
            }
        })
        .expect("it runs");
        let grown = status("VmRSS").saturating_sub(before);
        let footprint = Large::FOOTPRINT;
        assert!(grown < footprint.total() / 8, "{grown} bytes resident\n{footprint}");
        pool.stop();
        pool.join().expect("a clean end");
        assert!(status("VmHWM") <= before + footprint.total());
        return;
    }
    let child = again("declared_memory_is_resident_only_where_it_was_used");
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}
