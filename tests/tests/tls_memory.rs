//! What kio promises of TLS and memory: after the handshake nothing is allocated where the kernel does
//! the records, and no more than once a record, each way, where rustls does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::{Arc, mpsc};
use std::thread;

use kio::net::ListenOptions;
use kio::tls::{Mode, TlsAcceptor, TlsStream};
use kio::{Core, Worker};
use kio_tests::tls::{Authority, Choice, Client, NAME, Stage, VERSIONS, modes, tls_client};
use kio_tests::{pattern, scaled};

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no thread-locals left.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + 1));
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
    entry = idle,
    calls = 4 x 64 KiB,
    conns = 8,
    buffers = 128 x 16 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// Allocations of this thread while `run` runs.
async fn allocations<R>(run: impl Future<Output = R>) -> (u64, R) {
    let before = ALLOCATED.get();
    let value = run.await;
    (ALLOCATED.get() - before, value)
}

/// Answers requests of 5 bytes.
async fn answer(conn: &mut TlsStream, times: usize) -> kio::Result<()> {
    for _ in 0..times {
        let mut got = 0;
        while got < 5 {
            got += conn.recv_idle().await?.expect("a request").len();
        }
        conn.push("the head, ").await?;
        conn.push_copy(b"the body").await?;
        conn.flush().await?;
    }
    Ok(())
}

async fn take(conn: &mut TlsStream, mut len: usize) -> kio::Result<()> {
    while len > 0 {
        len -= conn.recv().await?.expect("bytes").len();
    }
    Ok(())
}

/// Takes records, and answers each when it is whole.
async fn take_alone(conn: &mut TlsStream, records: usize, len: usize) -> kio::Result<()> {
    for _ in 0..records {
        let mut got = 0;
        while got < len {
            got += conn.recv_idle().await?.expect("bytes").len();
        }
        conn.send("ok").await?;
    }
    Ok(())
}

fn ask(client: &mut Client, times: usize) {
    for _ in 0..times {
        client.write_all(b"hello").expect("the server reads");
        let mut reply = [0; 18];
        client.read_exact(&mut reply).expect("a reply");
        assert_eq!(&reply, b"the head, the body");
    }
}

#[test]
fn after_the_handshake_the_kernels_path_allocates_nothing_and_rustls_once_a_record() {
    const RECORD: usize = 16 * 1024;
    let (requests, records) = (scaled(400), scaled(400));
    let bulk: &'static [u8] = pattern(records * RECORD).leak();
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let authority = Authority::new();
        let choice = Choice::version(version);
        let server = Arc::new(choice.server(&authority.issue(NAME)));
        let acceptor = TlsAcceptor::new(server, mode).expect("the mode is there");
        let config = Arc::new(choice.client(&authority));
        let (tell, told) = mpsc::channel();
        let client = thread::spawn(move || {
            let mut client = tls_client(told.recv().expect("the server listens"), &config);
            ask(&mut client, 10 + requests);
            for record in bulk.chunks(RECORD) {
                client.write_all(record).expect("the server reads");
            }
            // One at a time, each over two of the server's buffers.
            for record in bulk.chunks(RECORD) {
                client.write_all(record).expect("the server reads");
                client.read_exact(&mut [0; 2]).expect("a reply");
            }
            let mut back = vec![0; bulk.len()];
            client.read_exact(&mut back).expect("as much");
            assert!(back == bulk);
        });
        let counts = Quiet::on_worker(async move |worker: Worker<Quiet>| {
            let options = ListenOptions::new().real_fds();
            let mut listener = worker.listen_with("127.0.0.1:0", options).await?;
            tell.send(listener.local_addr()?).expect("the client waits");
            let mut conn = acceptor.accept(listener.accept().await?).await?;
            // What is made once: session tickets that rustls sends, and lazy things.
            answer(&mut conn, 10).await?;
            let (asked, done) = allocations(answer(&mut conn, requests)).await;
            done?;
            let (taken, done) = allocations(take(&mut conn, bulk.len())).await;
            done?;
            let (alone, done) = allocations(take_alone(&mut conn, records, RECORD)).await;
            done?;
            let (sent, done) = allocations(conn.send(bulk)).await;
            done?;
            conn.close().await?;
            kio::Result::Ok([asked, taken, alone, sent])
        });
        let counts = counts.expect("no error");
        client.join().expect("the client ends well");
        println!("{mode:?} {version:?}: {counts:?} of {requests} requests, {records} records");
        let [asked, taken, alone, sent] = counts;
        if mode == Mode::Require {
            assert_eq!(counts, [0; 4], "{version:?}");
            continue;
        }
        // The heap's part of records that arrive in pieces is kept: it grows a few times.
        assert!(asked <= 2 * requests as u64, "{version:?}: {asked} for {requests} requests");
        assert!(taken <= records as u64 + 8, "{version:?}: {taken} for {records} records");
        // And one for each reply; the room for records in two buffers goes to the worker and back.
        assert!(alone <= 2 * records as u64 + 8, "{version:?}: {alone} for {records} records");
        // A buffer of 16 KiB holds a little less of plaintext.
        let most = bulk.len().div_ceil(16 * 1024 - 96) as u64;
        assert!(sent <= most, "{version:?}: {sent} for {most} records");
    }
}
