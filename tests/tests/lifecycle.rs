//! A pool's life: starting, running in the foreground, signals, draining, stopping, starting again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use kio::net::TcpStream;
use kio::{Core, Error, Signal, StartError, State, Worker};
use kio_tests::{again, client, is_child, scaled};
use rustix::process::{Pid, Signal as Kill, kill_process};

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

async fn echo(mut conn: TcpStream) -> kio::Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    Ok(())
}

/// The address to listen on, known at run time only.
struct At(SocketAddr);

impl State for At {
    type Args = SocketAddr;

    fn init(_: Core, addr: &SocketAddr) -> kio::Result<Self> {
        Ok(Self(*addr))
    }
}

fn at(state: &At) -> SocketAddr {
    state.0
}

/// A child of this program, running one of the tests below.
struct Service {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Service {
    fn start(test: &str) -> Self {
        let mut child = again(test);
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    /// The rest of the next line that begins with `word`.
    fn hear(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let n = self.lines.read_line(&mut line).expect("text");
            assert!(n > 0, "the child ended without `{word}`");
            // The harness may have begun the line.
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().into();
            }
        }
    }

    fn addr(&mut self) -> SocketAddr {
        self.hear("at:").parse().expect("an address")
    }

    fn signal(&self, signal: Kill) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).expect("the child lives");
    }

    fn end(mut self) -> ExitStatus {
        let mut rest = Vec::new();
        self.lines.read_to_end(&mut rest).expect("text");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A test that failed leaves nobody behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(text: impl std::fmt::Display) {
    println!("{text}");
}

// ---- in the foreground ----

mod served {
    use super::*;

    kio::pool! {
        pub struct Served;
        workers = 2,
        pin = off,
        entry = serve,
        tasks = { slow: 16, hup: 1 },
        conns = 16,
        buffers = 32 x 4 KiB,
        drain = 3600 s,
        signals = [HUP],
    }

    async fn serve(worker: Worker<Served>) -> kio::Result<()> {
        let mut listener = worker.listen("127.0.0.1:0").await?;
        if worker.index() == 0 {
            drop(worker.spawn(move || hup(worker))?);
            say(format_args!("at:{}", listener.local_addr()?));
        }
        loop {
            let place = worker.reserve(slow).await?;
            let conn = listener.accept().await?;
            place.spawn(move || slow(worker, conn));
        }
    }

    /// Tells of each SIGHUP.
    async fn hup(worker: Worker<Served>) -> kio::Result<()> {
        let mut signals = worker.signal(Signal::HUP)?;
        assert!(worker.signal(Signal::USR1).is_err(), "not declared");
        loop {
            assert_eq!(signals.recv().await?, Signal::HUP);
            say("hup:");
        }
    }

    /// Answers a line with itself, but `slow` after the next byte only: a request under way.
    async fn slow(worker: Worker<Served>, mut conn: TcpStream) -> kio::Result<()> {
        while let Some(data) = conn.recv_idle().await? {
            if &data[..] == b"slow" {
                say("slow:");
                worker.stopping().await;
                say("stopping:");
                let last = conn.recv().await?.ok_or(Error::Other("a byte was announced"))?;
                conn.push(last).await?;
            }
            conn.send(data).await?;
        }
        conn.close().await
    }
}

#[test]
fn sigterm_ends_run_with_success_once_requests_are_answered() {
    const SELF: &str = "sigterm_ends_run_with_success_once_requests_are_answered";
    if is_child() {
        served::Served::run().expect("a clean end");
        return;
    }
    let mut service = Service::start(SELF);
    let addr = service.addr();
    let mut idle: Vec<_> = (0..6).map(|_| client(addr)).collect();
    for stream in &mut idle {
        let mut back = [0; 2];
        stream.write_all(b"hi").expect("the server reads");
        stream.read_exact(&mut back).expect("the server answers");
        assert_eq!(&back, b"hi");
    }
    let mut busy = client(addr);
    busy.write_all(b"slow").expect("the server reads");
    service.hear("slow:");
    service.signal(Kill::TERM);
    service.hear("stopping:");
    // Idle ones end at once, though a request is under way.
    for stream in &mut idle {
        assert_eq!(stream.read(&mut [0; 1]).expect("an orderly end"), 0);
    }
    busy.write_all(b"!").expect("the server reads");
    let mut answer = Vec::new();
    busy.read_to_end(&mut answer).expect("an orderly end");
    assert_eq!(answer, b"!slow");
    assert_eq!(service.end().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_drain() {
    const SELF: &str = "a_second_signal_ends_the_drain";
    if is_child() {
        served::Served::run().expect("a clean end");
        return;
    }
    let mut service = Service::start(SELF);
    let addr = service.addr();
    let mut busy = client(addr);
    busy.write_all(b"slow").expect("the server reads");
    service.hear("slow:");
    service.signal(Kill::INT);
    service.hear("stopping:");
    service.signal(Kill::TERM);
    assert_eq!(service.end().code(), Some(0));
    drop(busy);
}

#[test]
fn declared_signals_reach_tasks_and_stop_nothing() {
    const SELF: &str = "declared_signals_reach_tasks_and_stop_nothing";
    if is_child() {
        served::Served::run().expect("a clean end");
        return;
    }
    let mut service = Service::start(SELF);
    let addr = service.addr();
    for _ in 0..20 {
        service.signal(Kill::HUP);
        service.hear("hup:");
    }
    let mut stream = client(addr);
    stream.write_all(b"alive").expect("the server reads");
    stream.read_exact(&mut [0; 5]).expect("the server answers");
    service.signal(Kill::TERM);
    assert_eq!(service.end().code(), Some(0));
}

#[test]
fn an_entrys_error_ends_run_on_all_workers() {
    const SELF: &str = "an_entrys_error_ends_run_on_all_workers";
    kio::pool! {
        struct Fails;
        workers = 2,
        pin = off,
        entry = fails,
        conns = 4,
        buffers = 4 x 4 KiB,
    }
    async fn fails(worker: Worker<Fails>) -> kio::Result<()> {
        let _listener = worker.listen("127.0.0.1:0").await?;
        if worker.index() == 0 {
            // The other one is idle, maybe asleep, by now.
            worker.sleep(std::time::Duration::from_millis(20)).await;
            return Err(Error::Other("the entry's own"));
        }
        std::future::pending().await
    }
    if is_child() {
        let error = Fails::run().expect_err("the entry fails");
        say(format_args!("error:{error}"));
        return;
    }
    let mut service = Service::start(SELF);
    assert_eq!(service.hear("error:"), "the entry's own");
    assert_eq!(service.end().code(), Some(0));
}

#[test]
fn two_pools_run_in_the_foreground_of_two_threads() {
    const SELF: &str = "two_pools_run_in_the_foreground_of_two_threads";
    kio::pool! { struct One; entry = tells, conns = 4, buffers = 4 x 4 KiB }
    kio::pool! { struct Two; entry = tells, conns = 4, buffers = 4 x 4 KiB, pin = off }
    async fn tells(core: Core) -> kio::Result<()> {
        say("runs:");
        core.stopping().await;
        Ok(())
    }
    if is_child() {
        let one = thread::spawn(One::run);
        Two::run().expect("a clean end");
        one.join().expect("no panic").expect("a clean end");
        return;
    }
    let mut service = Service::start(SELF);
    service.hear("runs:");
    service.hear("runs:");
    service.signal(Kill::TERM);
    assert_eq!(service.end().code(), Some(0));
}

// ---- starting ----

#[test]
fn an_entrys_first_error_is_what_start_returns() {
    kio::pool! { struct Fails; entry = fails, conns = 4, buffers = 4 x 4 KiB }
    async fn fails(_: Core) -> kio::Result<()> {
        Err(Error::Other("at once"))
    }
    for _ in 0..3 {
        assert_eq!(Fails::start().map(drop), Err(Error::Other("at once")));
        assert_eq!(Fails::start_when_free().map(drop), Err(Error::Other("at once")));
    }
}

#[test]
fn a_port_in_use_is_named() {
    kio::pool! {
        struct Ports;
        workers = 2,
        pin = off,
        state = At,
        listen = { at => echo },
        conns = 4,
        buffers = 4 x 4 KiB,
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound");
    for _ in 0..3 {
        let refused = Ports::start(addr).map(drop);
        assert_eq!(refused, Err(Error::Start(StartError::AddressInUse(addr))));
        let text = refused.map_err(|error| error.to_string());
        assert!(text.is_err_and(|text| text.contains(&addr.to_string())));
    }
    // An address for documentation, which no interface has.
    let elsewhere = "203.0.113.1:80".parse().expect("an address");
    let refused = Ports::start(elsewhere).map(drop).expect_err("it is nobody's");
    let errno = libc::EADDRNOTAVAIL;
    assert_eq!(refused, Error::Start(StartError::Listen { addr: elsewhere, errno }));
    let text = refused.to_string();
    assert!(text.contains("203.0.113.1:80") && text.contains("ip addr"), "{text}");
    drop(taken);
    let pool = Ports::start(addr).expect("it is free now");
    assert_eq!(pool.local_addr(), Ok(addr));
    let refused = TcpListener::bind(addr);
    assert!(refused.is_err(), "a pool's port is its own");
}

#[test]
fn two_workers_share_one_port_of_their_own() {
    kio::pool! {
        struct Shared;
        workers = 2,
        pin = off,
        listen = { "127.0.0.1:0" => who, "127.0.0.2:0" => who { accept = shared } },
        conns = 64,
        buffers = 64 x 4 KiB,
    }
    async fn who(worker: Worker<Shared>, mut conn: TcpStream) -> kio::Result<()> {
        let index: &'static str = ["0", "1"][worker.index()];
        conn.send(index).await?;
        conn.close().await
    }
    let pool = Shared::start().expect("starts");
    let addr = pool.local_addr().expect("it listens");
    let mut both = [0; 2];
    // The kernel spreads connections by their ports: sooner or later both have had some.
    while both.contains(&0) {
        let mut index = String::new();
        client(addr).read_to_string(&mut index).expect("an orderly end");
        both[index.parse::<usize>().expect("a number")] += 1;
    }
    let accepted: u64 = pool.stats().map(|stats| stats.accepted).sum();
    assert_eq!(accepted, both.iter().sum::<u64>());
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
fn a_pool_runs_once_at_a_time() {
    kio::pool! { struct Once; entry = idle, conns = 4, buffers = 4 x 4 KiB }
    let pool = Once::start().expect("starts");
    for _ in 0..3 {
        let second = Once::start().map(drop);
        assert_eq!(second, Err(Error::Start(StartError::AlreadyRunning)));
    }
    pool.stop();
    pool.join().expect("a clean end");
    drop(Once::start().expect("free again")); // a dropped handle stops and waits
    Once::start().expect("free again").join_after_stop();
}

trait JoinAfterStop {
    fn join_after_stop(self);
}

impl<P: kio::__private::Pool> JoinAfterStop for kio::Handle<P> {
    fn join_after_stop(self) {
        self.stop();
        self.join().expect("a clean end");
    }
}

#[test]
fn ten_threads_take_turns() {
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    kio::pool! { struct Turns; entry = idle, conns = 4, buffers = 4 x 4 KiB }
    thread::scope(|scope| {
        for nth in 0..10 {
            scope.spawn(move || {
                for _ in 0..scaled(10) {
                    let pool = Turns::start_when_free().expect("starts");
                    assert_eq!(INSIDE.fetch_add(1, Ordering::SeqCst), 0);
                    assert_eq!(pool.on(0, async move |_| nth), Ok(nth));
                    assert_eq!(INSIDE.fetch_sub(1, Ordering::SeqCst), 1);
                    pool.join_after_stop();
                }
            });
        }
    });
}

#[test]
fn more_workers_than_cpus_is_an_error_that_counts_them() {
    const SELF: &str = "more_workers_than_cpus_is_an_error_that_counts_them";
    kio::pool! { struct Two; workers = 2, entry = idle, conns = 4, buffers = 4 x 4 KiB }
    kio::pool! { struct Free; workers = 2, pin = off, entry = idle, conns = 4, buffers = 4 x 4 KiB }
    kio::pool! { struct UpTo; workers = ..=8, entry = idle, conns = 4, buffers = 4 x 4 KiB }
    kio::pool! { struct Far; workers = 1, pin = [1023], entry = idle, conns = 4, buffers = 4 x 4 KiB }
    if is_child() {
        let mut one = rustix::thread::CpuSet::new();
        let allowed = rustix::thread::sched_getaffinity(None).expect("this thread's");
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu));
        one.set(first.expect("it runs somewhere"));
        rustix::thread::sched_setaffinity(None, &one).expect("one of those allowed");
        let error = Two::start().map(drop);
        let expected = StartError::TooFewCpus { workers: 2, cpus: 1 };
        assert_eq!(error, Err(Error::Start(expected)));
        Free::start().expect("they share one").join_after_stop();
        let pool = UpTo::start().expect("as many as there are");
        assert_eq!(pool.workers(), 1);
        pool.join_after_stop();
        let error = Far::start().map(drop);
        assert_eq!(error, Err(Error::Start(StartError::CpuNotAllowed(1023))));
        say("done:");
        return;
    }
    let mut service = Service::start(SELF);
    service.hear("done:");
    assert_eq!(service.end().code(), Some(0));
}

#[test]
fn each_failed_start_tells_its_own_error() {
    const SELF: &str = "each_failed_start_tells_its_own_error";
    kio::pool! { struct Two; workers = 2, entry = fails, conns = 4, buffers = 4 x 4 KiB }
    async fn fails(_: Core) -> kio::Result<()> {
        Err(Error::Other("the first run's"))
    }
    if is_child() {
        let allowed = rustix::thread::sched_getaffinity(None).expect("this thread's");
        if allowed.count() < 2 {
            println!("skipped: one CPU");
            say("done:");
            return;
        }
        assert_eq!(Two::start().map(drop), Err(Error::Other("the first run's")));
        let mut one = rustix::thread::CpuSet::new();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu));
        one.set(first.expect("it runs somewhere"));
        rustix::thread::sched_setaffinity(None, &one).expect("one of those allowed");
        let expected = StartError::TooFewCpus { workers: 2, cpus: 1 };
        assert_eq!(Two::start().map(drop), Err(Error::Start(expected)));
        say("done:");
        return;
    }
    let mut service = Service::start(SELF);
    service.hear("done:");
    assert_eq!(service.end().code(), Some(0));
}

// ---- state ----

/// What has happened to `Tracked`s.
static MADE: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Tracked(Worker<Tracking>);

impl State for Tracked {
    type Args = Option<usize>;

    fn init(core: Core, fails: &Option<usize>) -> kio::Result<Self> {
        if *fails == Some(core.index()) {
            return Err(Error::Other("no state"));
        }
        MADE.fetch_add(1, Ordering::SeqCst);
        Ok(Self(core.into()))
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let _ = self.0.stats();
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

kio::pool! {
    struct Tracking;
    workers = 2,
    pin = off,
    entry = keeps,
    state = Tracked,
    conns = 4,
    buffers = 4 x 4 KiB,
}

/// Keeps a guard on the state for as long as it lives.
async fn keeps(worker: Worker<Tracking>) -> kio::Result<()> {
    let state = worker.state();
    assert_eq!(state.0.index(), worker.index());
    std::future::pending().await
}

#[test]
fn the_state_is_made_before_the_entry_and_dropped_after_the_tasks() {
    let tracked = || (MADE.swap(0, Ordering::SeqCst), DROPPED.swap(0, Ordering::SeqCst));
    Tracking::start(None).expect("starts").join_after_stop();
    assert_eq!(tracked(), (2, 2));
    for fails in 0..2 {
        let error = Tracking::start(Some(fails)).map(drop);
        assert_eq!(error, Err(Error::Other("no state")));
        let (made, dropped) = tracked();
        assert!(made == dropped && made <= 1, "{made} made, {dropped} dropped");
    }
    let pool = Tracking::start_when_free(None).expect("starts");
    pool.on(1, async |worker| assert_eq!(worker.state().0.index(), 1)).expect("it runs");
    pool.join_after_stop();
    assert_eq!(tracked(), (2, 2));
}

#[test]
fn a_forgotten_guard_retires_the_pool_and_keeps_the_state() {
    static STATES: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl State for Counted {
        type Args = ();
        fn init(_: Core, (): &()) -> kio::Result<Self> {
            STATES.fetch_add(1, Ordering::SeqCst);
            Ok(Self)
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            STATES.fetch_sub(1, Ordering::SeqCst);
        }
    }
    kio::pool! { struct Kept; entry = idle, state = Counted, conns = 4, buffers = 4 x 4 KiB }
    let pool = Kept::start(()).expect("starts");
    pool.on(0, async |worker: Worker<Kept>| std::mem::forget(worker.state())).expect("it runs");
    pool.join_after_stop();
    assert_eq!(STATES.load(Ordering::SeqCst), 1);
    match Kept::start(()).map(drop) {
        Err(Error::Start(StartError::Retired(held))) => assert_eq!(held.guards, 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn forgotten_handles_retire_the_pool_and_are_counted() {
    kio::pool! { struct Leaky; entry = idle, conns = 4, buffers = 8 x 4 KiB }
    let pool = Leaky::start().expect("starts");
    pool.on(0, async |worker: Worker<Leaky>| {
        std::mem::forget(worker.buf().await);
        std::mem::forget(worker.spawn(std::future::pending::<()>));
        std::mem::forget(worker.listen("127.0.0.1:0").await); // a port is no memory
    })
    .expect("it runs");
    pool.join_after_stop();
    match Leaky::start().map(drop) {
        Err(Error::Start(StartError::Retired(held))) => {
            assert_eq!((held.buffers, held.tasks, held.sockets, held.guards), (1, 1, 0, 0));
        }
        other => panic!("{other:?}"),
    }
}

// ---- stopping ----

kio::pool! {
    struct Stops;
    workers = 2,
    pin = off,
    listen = { "127.0.0.1:0" => echo },
    conns = 16,
    buffers = 32 x 4 KiB,
    drain = 3600 s,
}

#[test]
fn a_stop_from_a_task_ends_all_workers() {
    for worker in 0..2 {
        let pool = Stops::start_when_free().expect("starts");
        pool.local_addr().expect("it listens");
        pool.on(worker, async |worker: Worker<Stops>| worker.stop()).expect("it runs");
        pool.join().expect("a clean end");
    }
}

#[test]
fn a_stop_right_after_the_start_waits_for_no_drain() {
    for _ in 0..scaled(100) {
        let pool = Stops::start_when_free().expect("starts");
        pool.join_after_stop();
    }
}

#[test]
fn a_stop_right_after_an_accept_waits_for_no_drain() {
    for round in 0..scaled(100) {
        let pool = Stops::start_when_free().expect("starts");
        let addr = pool.local_addr().expect("it listens");
        let mut streams: Vec<_> = (0..1 + round % 6).map(|_| client(addr)).collect();
        streams[0].write_all(b"x").expect("accepted");
        streams[0].read_exact(&mut [0; 1]).expect("answered");
        pool.stop();
        for mut stream in streams {
            assert_eq!(stream.read(&mut [0; 1]).expect("an orderly end"), 0);
        }
        pool.join().expect("a clean end");
    }
}

#[test]
fn what_waits_in_the_backlog_is_answered_before_the_end() {
    for _ in 0..scaled(30) {
        let pool = Stops::start_when_free().expect("starts");
        let addr = pool.local_addr().expect("it listens");
        let mut streams: Vec<_> = (0..8).map(|_| client(addr)).collect();
        for stream in &mut streams {
            stream.write_all(b"request").expect("connected");
            stream.shutdown(Shutdown::Write).expect("connected");
        }
        pool.stop(); // they are connected, though maybe not accepted yet
        for mut stream in streams {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an orderly end");
            assert_eq!(answer, "request");
        }
        pool.join().expect("a clean end");
    }
}

#[test]
fn stopping_is_told_to_tasks_and_joins_all() {
    let pool = Stops::start_when_free().expect("starts");
    let (tell, told) = mpsc::channel();
    for worker in 0..2 {
        let tell = tell.clone();
        pool.on(worker, async move |worker: Worker<Stops>| {
            let task = async move || {
                tell.send((worker.index(), false)).expect("heard");
                worker.stopping().await;
                tell.send((worker.index(), true)).expect("heard");
            };
            drop(worker.spawn(task).expect("room"));
        })
        .expect("it runs");
    }
    assert!(!told.recv().expect("told").1 && !told.recv().expect("told").1);
    pool.stop();
    let mut both = [told.recv().expect("told"), told.recv().expect("told")];
    both.sort();
    assert_eq!(both, [(0, true), (1, true)]);
    pool.join().expect("a clean end");
}

#[test]
fn a_panicking_on_error_or_debug_ends_no_other_task() {
    const SELF: &str = "a_panicking_on_error_or_debug_ends_no_other_task";
    kio::pool! { struct Hook; entry = idle, conns = 4, buffers = 4 x 4 KiB, on_error = hook }
    fn hook(_: Core, _: &kio::Failure<'_>) {
        panic!("in the hook");
    }
    if is_child() {
        let pool = Hook::start().expect("starts");
        pool.on(0, async |worker: Worker<Hook>| {
            drop(worker.spawn(|| async { Err::<(), _>("told") }).expect("room"));
            kio_tests::yield_now().await;
        })
        .expect("it runs");
        assert_eq!(pool.on(0, async |_| 5), Ok(5));
        pool.join_after_stop();
        say("done:");
        return;
    }
    let service = Service::start(SELF);
    assert_eq!(service.end().code(), Some(0));
}

#[test]
fn relative_paths_begin_at_one_directory_on_all_workers() {
    struct Own(&'static std::path::Path);
    impl kio::State for Own {
        type Args = [&'static str; 2];
        fn init(core: Core, roots: &Self::Args) -> kio::Result<Self> {
            Ok(Self(std::path::Path::new(roots[core.index()])))
        }
    }
    fn root(own: &Own) -> &std::path::Path {
        own.0
    }
    kio::pool! {
        struct Rooted;
        workers = 2, pin = off, entry = idle, state = Own, root = root, files = 1, conns = 1,
        buffers = 4 x 4 KiB,
    }
    for _ in 0..3 {
        let refused = Rooted::start(["/tmp", "/var"]).map(drop).expect_err("two roots");
        assert!(refused.to_string().contains("`root` gives each worker another"), "{refused}");
    }
    // As text both are one.
    let pool = Rooted::start(["/tmp", "/var/../tmp/"]).expect("one root");
    pool.stop();
    pool.join().expect("a clean end");
}

// ---- the footprint ----

#[test]
fn the_footprint_is_a_constant_and_a_table() {
    const TOTAL: u64 = Stops::FOOTPRINT.total();
    static ROOM: [u8; (Stops::FOOTPRINT.buffers >> 12) as usize] =
        [0; (Stops::FOOTPRINT.buffers >> 12) as usize];
    const { assert!(TOTAL > 2 * 32 * 4096) };
    assert_eq!(ROOM.len(), 2 * 32);
    let footprint = Stops::FOOTPRINT;
    assert_eq!(footprint.workers, 2);
    assert_eq!(footprint.total(), footprint.statics() + footprint.mapped());
    let table = footprint.to_string();
    for line in ["task bodies", "buffers", "sockets", "rings", "stacks"] {
        assert!(table.contains(line), "{table}");
    }
    println!("{table}");
}
