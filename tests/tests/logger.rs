//! The logger: every record is written whole or counted, nobody waits for a writer that is stuck, and
//! what was logged before the end or a panic is there.

use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kio::logger::{LevelFilter, Logger};
use kio::net::TcpStream;
use kio::{Core, Worker};
use kio_tests::{HANG, again, client, is_child, scaled};
use log::Log;

mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};

    /// The system's allocator, which counts what threads ask of it that said so.
    pub struct Counting;

    // SAFETY: every call goes on to the system's allocator, as it came.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            super::count();
            // SAFETY: the caller's promise is handed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            // SAFETY: the caller's promise is handed on.
            unsafe { System.dealloc(at, layout) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get) == Ok(true) {
        ALLOCATED.fetch_add(1, Ordering::SeqCst);
    }
}

/// Hands a logger a record, as the facade does.
fn say<const SLOTS: usize>(logger: &Logger<SLOTS>, text: std::fmt::Arguments<'_>) {
    let mut record = log::Record::builder();
    let record = record.target("test").level(log::Level::Info);
    logger.log(&record.args(text).build());
}

/// A sink that keeps what it is given.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(String::from).collect()
    }
}

/// A sink that takes nothing until it is let.
struct Stuck {
    until: mpsc::Receiver<()>,
    kept: Kept,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.until.recv(); // until it hears, or nobody is left to say so
        self.kept.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

kio::pool! {
    struct Talks;
    workers = 2,
    pin = off,
    listen = { "127.0.0.1:0" => echo },
    tasks = { keep: 1 },
    conns = 16,
    buffers = 64 x 4 KiB,
    files = 2,
    calls = 16 x 512 B,
}

static ECHO_LOG: Logger<16> = Logger::new();

async fn echo(mut conn: TcpStream) -> kio::Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        COUNTED.set(true);
        say(&ECHO_LOG, format_args!("{} bytes of {:?}", data.len(), conn.peer_addr().ok()));
        COUNTED.set(false);
        conn.send(data).await?;
    }
    conn.close().await
}

static FILE_LOG: Logger = Logger::new();

async fn keep(core: Core, path: std::path::PathBuf) -> kio::Result<()> {
    let file = core.open_with(&path, kio::fs::OpenOptions::new().create()).await?;
    FILE_LOG.append_to(&file).await
}

#[test]
fn records_of_many_threads_are_whole_or_counted_and_the_lines_tell_of_both() {
    static LOG: Logger<64> = Logger::new();
    let kept = Kept::default();
    let writer = LOG.write_to(kept.clone()).unwrap();
    assert!(LOG.write_to(std::io::sink()).is_err(), "one writer at a time");
    let each = scaled(20_000);
    thread::scope(|scope| {
        for nth in 0..4 {
            scope.spawn(move || {
                for i in 0..each {
                    // Of one slot to six.
                    say(&LOG, format_args!("{nth} {i} {:x<1$}|", "", i % 600));
                }
            });
        }
    });
    drop(writer);
    let (mut missing, mut last, mut written) = (0, [None; 4], 0);
    for line in kept.lines() {
        if let Some((_, told)) = line.split_once("kio::logger: ") {
            missing += told.split(' ').next().unwrap().parse::<u64>().unwrap();
            continue;
        }
        let (_, text) = line.split_once("INFO  test: ").unwrap_or_else(|| panic!("{line}"));
        let mut words = text.split(' ');
        let nth: usize = words.next().unwrap().parse().unwrap();
        let i: usize = words.next().unwrap().parse().unwrap();
        assert_eq!(words.next().unwrap(), format!("{:x<1$}|", "", i % 600));
        assert!(last[nth].is_none_or(|last| last < i), "out of order");
        last[nth] = Some(i);
        written += 1;
    }
    assert_eq!(written + LOG.dropped(), 4 * each as u64);
    assert!(missing <= LOG.dropped());
}

#[test]
fn workers_serve_on_and_allocate_nothing_while_the_writer_is_stuck() {
    let (go, until) = mpsc::channel();
    let kept = Kept::default();
    let writer = ECHO_LOG.write_to(Stuck { until, kept: kept.clone() }).unwrap();
    let pool = Talks::start_when_free().unwrap();
    let mut one = client(pool.local_addr().unwrap());
    for _ in 0..200 {
        one.write_all(b"hello").unwrap();
        one.read_exact(&mut [0; 5]).unwrap();
    }
    assert!(ECHO_LOG.dropped() > 0, "sixteen slots do not hold it");
    assert_eq!(ALLOCATED.load(Ordering::SeqCst), 0);
    drop(one);
    pool.stop();
    pool.join().unwrap();
    drop(go);
    drop(writer);
    let lines = kept.lines();
    let (told, said): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l.contains("kio::logger"));
    assert_eq!(said.len() as u64 + ECHO_LOG.dropped(), 200);
    assert!(said.iter().all(|line| line.contains("5 bytes of Some(127.0.0.1:")), "{said:?}");
    assert!(told.iter().all(|line| line.contains("did not fit")) && !told.is_empty());
}

#[test]
fn a_task_appends_what_both_workers_log_to_a_file() {
    let path = std::env::temp_dir().join(format!("kio-logger-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let pool = Talks::start_when_free().unwrap();
    let to = path.clone();
    let spawned = pool.on(0, async move |worker: Worker<Talks>| {
        worker.spawn(move || keep(worker.core(), to)).is_ok()
    });
    assert!(spawned.unwrap());
    let each = scaled(300);
    for i in 0..each {
        for worker in 0..2 {
            pool.on(worker, async move |_| say(&FILE_LOG, format_args!("{worker} {i}"))).unwrap();
        }
    }
    assert!(FILE_LOG.wait_written(HANG));
    let text = std::fs::read_to_string(&path).unwrap();
    let count = |worker| text.lines().filter(|l| l.contains(&format!("test: {worker} "))).count();
    assert_eq!((count(0), count(1), FILE_LOG.dropped()), (each, each, 0));
    pool.stop();
    pool.join().unwrap();
    // The writer is gone: what comes now waits for who writes the rest, and another may come.
    say(&FILE_LOG, format_args!("late"));
    let mut rest = Vec::new();
    FILE_LOG.write_rest(&mut rest).unwrap();
    assert!(String::from_utf8(rest).unwrap().ends_with("test: late\n"));
    let _ = std::fs::remove_file(path);
    drop(FILE_LOG.write_to(std::io::sink()).unwrap());
}

#[test]
fn a_writer_that_fails_loses_lines_and_counts_them() {
    struct Fails;
    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    static LOG: Logger<16> = Logger::new();
    let writer = LOG.write_to(Fails).unwrap();
    say(&LOG, format_args!("nobody reads this"));
    assert!(LOG.wait_written(HANG), "it is not waited for again");
    drop(writer);
    assert_eq!(LOG.dropped(), 1);
}

#[test]
fn what_was_written_stays_written_though_an_older_write_ends_later() {
    struct Gated(mpsc::Sender<()>, mpsc::Receiver<()>);
    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(());
            let _ = self.1.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    static LOG: Logger<16> = Logger::new();
    let ((tell, told), (open, gate)) = (mpsc::channel(), mpsc::channel());
    let writer = LOG.write_to(Gated(tell, gate)).unwrap();
    say(&LOG, format_args!("one"));
    told.recv().expect("it writes");
    say(&LOG, format_args!("two"));
    LOG.write_rest(&mut std::io::sink()).unwrap();
    drop(open);
    drop(writer);
    assert!(LOG.wait_written(Duration::ZERO));
}

static FACADE: Logger = Logger::new();

/// What a child that runs `test` wrote to standard error, and whether it ended well.
fn child(test: &str) -> (String, bool) {
    let mut child = again(test);
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap().success())
}

#[test]
fn all_that_was_logged_is_written_when_the_writer_goes() {
    if !is_child() {
        let (text, ended) = child("all_that_was_logged_is_written_when_the_writer_goes");
        assert!(ended, "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("INFO  logger: line ")).count(), 500);
        assert!(!text.contains("debug"), "above the level");
        return;
    }
    let writer = FACADE.start(LevelFilter::Info, std::io::stdout()).unwrap();
    let pool = Talks::start_when_free().unwrap();
    pool.on(0, async |_| {
        for i in 0..500 {
            log::info!("line {i}");
            log::debug!("debug {i}");
        }
    })
    .unwrap();
    drop(pool);
    drop(writer);
}

#[test]
fn what_was_logged_before_a_panic_is_written_though_the_process_aborts() {
    if !is_child() {
        let (text, ended) =
            child("what_was_logged_before_a_panic_is_written_though_the_process_aborts");
        assert!(!ended);
        assert!(text.contains("INFO  logger: the last words\n"), "{text}");
        return;
    }
    let _writer = FACADE.start(LevelFilter::Info, std::io::stdout()).unwrap();
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            std::process::abort(); // as kio does where a panic is its own
        }
    }
    let _abort = Abort;
    log::info!("the last words");
    panic!("a panic of the driver");
}

#[test]
fn a_task_that_panics_is_held_up_by_a_stuck_writer_for_a_moment_only() {
    if !is_child() {
        let (text, ended) =
            child("a_task_that_panics_is_held_up_by_a_stuck_writer_for_a_moment_only");
        assert!(ended, "{text}");
        return;
    }
    let (_go, until) = mpsc::channel();
    let stuck = Stuck { until, kept: Kept::default() };
    let writer = FACADE.start(LevelFilter::Info, stuck).unwrap();
    std::mem::forget(writer); // it would wait for what is stuck
    let pool = Talks::start_when_free().unwrap();
    log::info!("nobody takes this");
    assert!(pool.on(0, async |_| panic!("in a task")).is_err());
    let began = Instant::now();
    assert!(!FACADE.wait_written(Duration::from_millis(1)) && began.elapsed() < HANG);
    pool.stop();
    pool.join().unwrap();
}
