//! Nothing is allocated while files are opened, read, written, appended, synced, replaced and closed,
//! on the worker that owns them and on one that asks it. Alone in its program, since it counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kio::fs::{Advice, OpenOptions};
use kio::{Core, Worker};
use kio_tests::scaled;

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

/// Where the files are.
static ROOT: OnceLock<PathBuf> = OnceLock::new();

struct Nowhere;

impl kio::State for Nowhere {
    type Args = ();

    fn init(_: Core, (): &()) -> kio::Result<Self> {
        Ok(Self)
    }
}

fn root(_: &Nowhere) -> &Path {
    ROOT.get().expect("the test set it")
}

kio::pool! {
    struct Quiet;
    workers  = 2,
    pin      = off,
    entry    = mark,
    state    = Nowhere,
    calls    = 4 x 16 KiB,
    files    = 8,
    file_ops = 8,
    buffers  = 32 x 8 KiB,
    conns    = 4,
    allow    = [paths],
    root     = root,
    routes   = { _ => 1 },
}

async fn mark(_: Worker<Quiet>) -> kio::Result<()> {
    // From here to the thread's end.
    WORKER.set(true);
    Ok(())
}

async fn work(worker: Worker<Quiet>, log: &str, config: &str) -> kio::Result<()> {
    let file = worker.open_with(log, OpenOptions::new().create()).await?;
    let mut record = worker.buf().await?;
    record.put(&[7; 3000])?;
    let at = file.append(record).await?;
    file.write_all_at("head", at).await?;
    file.sync_data().await?;
    let read = file.read_exact_at(worker.buf().await?, at, 3000).await?;
    assert_eq!(&read[..5], b"head\x07");
    let bufs = [worker.buf().await?, worker.buf().await?];
    let [a, b] = file.read_scattered_at(bufs, 0).await?;
    file.write_gathered_at([a.freeze(), b.freeze()], 0).await?;
    file.set_len(at + 4000).await?;
    file.allocate(0, 100).await?;
    file.advise(Advice::Sequential, 0, 0).await?;
    assert!(file.metadata().await?.len() >= at + 4000);
    worker.write_atomic(config, &[1; 20_000]).await?;
    assert_eq!(worker.stat(config).await?.len(), 20_000);
    let missing = worker.open("missing").await;
    assert_eq!(missing.err().and_then(|error| error.errno()), Some(2));
    let mut entries = worker.read_dir(".").await?;
    while entries.next().await?.is_some() {}
    file.close().await
}

#[test]
fn nothing_is_allocated_while_files_are_worked_on() {
    let base = std::env::var_os("KIO_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("kio-quiet-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    ROOT.set(dir.clone()).expect("once");
    let rounds = scaled(50); // asked here, since reading the environment allocates
    let pool = Quiet::start(()).expect("starts");
    for worker in [0, 1] {
        let (log, config) = [("log-0", "config-0"), ("log-1", "config-1")][worker];
        let run = async move |worker: Worker<Quiet>| -> kio::Result<()> {
            for _ in 0..rounds {
                work(worker, log, config).await?;
            }
            Ok(())
        };
        pool.on(worker, run).expect("the call runs").expect("works");
    }
    pool.stop();
    pool.join().expect("a clean end");
    assert_eq!(ALLOCATED.load(Ordering::SeqCst), 0);
    assert_eq!(std::fs::read_dir(&dir).expect("reads").count(), 4);
    std::fs::remove_dir_all(&dir).expect("removes");
}
