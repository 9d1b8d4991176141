//! User code that kio calls and did not write: wakers, drops, closures, entries. It may panic, look no
//! more when it is woken, or come back into kio; that costs it what is its own, and nobody else.

use std::cell::RefCell;
use std::future::Future;
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use kio::net::TcpStream;
use kio::{Core, Error, Handle, StartError, Worker};
use kio_tests::{client, scaled, yield_now};

type Result<T = ()> = kio::Result<T>;

kio::pool! {
    struct Strangers;
    entry = idle,
    tasks = { waits: 1 },
    spawn = 16 x 1 KiB,
    calls = 4 x 16 KiB,
    conns = 4,
    buffers = 16 x 4 KiB,
    pin = off,
    blocking = 1,
}

async fn idle(_: Core) -> Result {
    Ok(())
}

async fn waits() {
    std::future::pending().await
}

/// Runs `body` on the worker of a pool that starts and, with nothing held, ends for it.
fn on_worker<R, F>(body: F) -> R
where
    F: AsyncFnOnce(Worker<Strangers>) -> R + Send + 'static,
    R: Send + 'static,
{
    let pool = Strangers::start_when_free().expect("the last run held nothing");
    let value = pool.on(0, body).expect("the body ends");
    pool.stop();
    pool.stop(); // without a drain
    pool.join().expect("a clean end");
    value
}

/// Polls once with a waker.
fn poll_with<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

// ---- panics ----

struct PanicsWhenWoken;

impl Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

struct PanicsWhenDropped;

impl Wake for PanicsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_waker_that_panics_ends_no_worker() {
    let peer = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = peer.local_addr().expect("bound");
    let panics = on_worker(async move |worker| {
        for waker in [Waker::from(Arc::new(PanicsWhenWoken)), Arc::new(PanicsWhenDropped).into()] {
            let mut conn = worker.connect(addr).await.expect("it listens");
            let (mut sent, _) = peer.accept().expect("a client");
            let mut soon = Box::pin(worker.sleep(Duration::from_millis(1)));
            let mut place = Box::pin(worker.reserve(waits));
            let held = worker.reserve(waits).await.expect("declared");
            let mut recv = Box::pin(conn.recv());
            assert!(poll_with(soon.as_mut(), &waker).is_pending());
            assert!(poll_with(place.as_mut(), &waker).is_pending());
            assert!(poll_with(recv.as_mut(), &waker).is_pending());
            drop(waker);
            drop(held);
            sent.write_all(b"x").expect("sends");
            worker.sleep(Duration::from_millis(2)).await;
            let data = recv.await.expect("no error").expect("a byte");
            assert_eq!(&data[..], b"x");
        }
        worker.stats().panics
    });
    // The last that holds the second waker drops it, and that one panics; each wake of the first does.
    assert_eq!(panics, 4);
}

#[test]
fn what_a_panic_throws_may_panic_too() {
    struct Thrown;
    impl Drop for Thrown {
        fn drop(&mut self) {
            std::panic::panic_any(Again);
        }
    }
    fn throw() {
        std::panic::panic_any(Thrown);
    }
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let panics = on_worker(async |worker| {
        drop(worker.spawn(async || throw()).expect("room"));
        yield_now().await;
        worker.stats().panics
    });
    assert_eq!(panics, 1);
}

#[test]
fn an_outcome_of_ones_own_may_panic() {
    struct Odd;
    impl kio::Outcome for Odd {
        fn failure(&self) -> Option<(&dyn std::fmt::Debug, bool)> {
            panic!("how it ended");
        }
    }
    let panics = on_worker(async |worker| {
        drop(worker.spawn(async || Odd).expect("room"));
        yield_now().await;
        worker.stats().panics
    });
    assert_eq!(panics, 1);
}

#[test]
fn an_entry_that_panics_when_called_fails_the_start() {
    fn serve(_: Core) -> std::future::Ready<Result> {
        panic!("called")
    }
    kio::pool! { struct Eager; entry = serve, buffers = 16 x 4 KiB, pin = off }
    for _ in 0..2 {
        let failed = Eager::start().map(drop).expect_err("it panics");
        assert!(matches!(failed, Error::Other(_)), "{failed:?}");
    }
}

#[test]
fn a_handler_that_panics_when_called_ends_its_connection_only() {
    fn greet(conn: TcpStream) -> impl Future<Output = Result> {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        assert!(CALLS.fetch_add(1, Ordering::SeqCst) > 0, "the first");
        async move {
            let mut conn = conn;
            conn.send("hello").await
        }
    }
    kio::pool! {
        struct Greet;
        listen = { "127.0.0.1:0" => greet },
        conns = 8,
        buffers = 16 x 4 KiB,
        pin = off,
    }
    let pool = Greet::start().expect("starts");
    let addr = pool.local_addr().expect("listens");
    for expected in ["", "hello"] {
        let mut got = String::new();
        client(addr).read_to_string(&mut got).expect("the end");
        assert_eq!(got, expected);
    }
    assert_eq!(pool.stats().map(|stats| stats.panics).sum::<u64>(), 1);
}

#[test]
fn a_state_that_panics_when_dropped_ends_with_its_pool() {
    struct Fragile;
    impl kio::State for Fragile {
        type Args = ();
        fn init(_: Core, (): &()) -> Result<Self> {
            Ok(Self)
        }
    }
    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    kio::pool! { struct Breaks; state = Fragile, entry = idle, buffers = 16 x 4 KiB, pin = off }
    for _ in 0..2 {
        Breaks::start(()).expect("starts").join_soon();
    }
}

trait JoinSoon {
    fn join_soon(self);
}

impl<P: kio::__private::Pool> JoinSoon for Handle<P> {
    fn join_soon(self) {
        self.stop();
        self.join().expect("a clean end");
    }
}

#[test]
fn the_closure_of_a_refused_call_is_dropped_by_its_caller() {
    kio::pool! { struct One; entry = idle, calls = 1 x 256 B, buffers = 16 x 4 KiB, pin = off }
    static DROPPED_ON: Mutex<Option<thread::ThreadId>> = Mutex::new(None);
    struct Notes;
    impl Drop for Notes {
        fn drop(&mut self) {
            *DROPPED_ON.lock().expect("no panic") = Some(thread::current().id());
        }
    }
    let pool = One::start().expect("starts");
    thread::scope(|scope| {
        let begun = Arc::new(Barrier::new(2));
        let first = Arc::clone(&begun);
        let pool = &pool;
        scope.spawn(move || {
            let ended = pool.on(0, async move |_| {
                first.wait();
                std::future::pending::<()>().await
            });
            assert!(ended.is_err(), "the stop ended it");
        });
        begun.wait();
        let waits = scope.spawn(move || {
            let notes = Notes;
            let refused = pool.on(0, async move |_| drop(notes));
            assert_eq!(refused, Err(Error::Stopped));
            thread::current().id()
        });
        // Until it is posted nothing tells; posted after the stop it is refused all the same.
        thread::yield_now();
        pool.stop();
        pool.stop();
        let caller = waits.join().expect("no panic");
        assert_eq!(*DROPPED_ON.lock().expect("no panic"), Some(caller));
    });
    pool.join().expect("a clean end");
}

// ---- those who look no more ----

#[test]
fn who_waits_behind_those_that_look_no_more_is_served() {
    on_worker(async |worker| {
        let mut bufs = Vec::new();
        while let Some(buf) = worker.try_buf() {
            bufs.push(buf);
        }
        let place = worker.reserve(waits).await.expect("declared");
        let mut blind: Vec<_> = (0..5).map(|_| Box::pin(worker.buf())).collect();
        let mut blind_too: Vec<_> = (0..5).map(|_| Box::pin(worker.reserve(waits))).collect();
        for future in &mut blind {
            assert!(poll_with(future.as_mut(), Waker::noop()).is_pending());
        }
        for future in &mut blind_too {
            assert!(poll_with(future.as_mut(), Waker::noop()).is_pending());
        }
        let served = worker.spawn(async move || worker.buf().await.map(drop)).expect("room");
        let served_too =
            worker.spawn(async move || worker.reserve(waits).await.map(drop)).expect("room");
        yield_now().await;
        bufs.pop();
        drop(place);
        served.await.expect("no panic").expect("a buffer");
        served_too.await.expect("no panic").expect("a slot");
    });
}

#[test]
fn a_connect_given_up_as_its_slot_came_leaves_it_to_the_accepts() {
    kio::pool! { struct Two; entry = idle, calls = 2 x 4 KiB, conns = 2, buffers = 16 x 4 KiB, pin = off }
    let peer = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = peer.local_addr().expect("bound");
    let pool = Two::start().expect("starts");
    let accepted = pool.on(0, async move |worker| {
        let mut listener = worker.listen("127.0.0.1:0").await.expect("a free port");
        let here = listener.local_addr().expect("bound");
        let first = worker.connect(addr).await.expect("it listens");
        let other = worker.connect(addr).await.expect("it listens");
        let mut waits = Box::pin(worker.connect(addr));
        let accepts = worker.spawn(async move || listener.accept().await.map(drop)).expect("room");
        // The connect waits in line, then the accept does.
        let polled = std::future::poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "no slot is free");
        yield_now().await;
        drop(first);
        // The freed slot wakes the connect, and so this task, which looks no more.
        let mut woken = false;
        std::future::poll_fn(|_| match std::mem::replace(&mut woken, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        drop(waits);
        let _client = std::net::TcpStream::connect(here).expect("the backlog has room");
        accepts.await.expect("no panic").expect("a client");
        drop(other);
    });
    accepted.expect("the body ends");
    pool.join_soon();
}

#[test]
fn forgotten_names_hold_no_job_of_the_next_run() {
    for _ in 0..3 {
        on_worker(async |worker| {
            // A waker that panics on the resolver's thread, which others need.
            let waker = Waker::from(Arc::new(PanicsWhenWoken));
            let mut asked = Box::pin(worker.resolve("localhost:1"));
            let _ = poll_with(asked.as_mut(), &waker);
            drop(worker.resolve("localhost:2").await.expect("known to every system"));
            let mut forgotten = 0;
            loop {
                let mut asked = Box::pin(worker.resolve("localhost:3"));
                match poll_with(asked.as_mut(), Waker::noop()) {
                    Poll::Pending => forgotten += 1,
                    Poll::Ready(Ok(_)) => {} // the thread was as quick as that
                    Poll::Ready(Err(_)) => break,
                }
                std::mem::forget(asked);
            }
            assert!(forgotten > 0, "the last run's jobs are free again");
        });
    }
}

// ---- those who come back ----

thread_local! {
    /// What [`Late`] does when it is woken, on that thread.
    static LATE: RefCell<Vec<Box<dyn FnOnce()>>> = const { RefCell::new(Vec::new()) };
}

struct Late;

impl Wake for Late {
    fn wake(self: Arc<Self>) {
        let due = LATE.take();
        due.into_iter().for_each(|act| act());
    }
}

/// Does something as the worker ends, after it has closed everything.
fn at_the_end(worker: Worker<Strangers>, act: impl FnOnce() + 'static) {
    LATE.with_borrow_mut(|late| late.push(Box::new(act)));
    let hour = Box::leak(Box::new(worker.sleep(Duration::from_secs(3600))));
    let waker = Waker::from(Arc::new(Late));
    assert!(poll_with(Pin::static_mut(hour), &waker).is_pending());
}

#[test]
fn halves_dropped_after_their_worker_closed_everything_leave_nothing_for_the_next_run() {
    let peer = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = peer.local_addr().expect("bound");
    for _ in 0..3 {
        on_worker(async move |worker| {
            let conn = worker.connect(addr).await.expect("it listens");
            let (recv, send) = conn.into_split();
            let mut ends = worker.connect(addr).await.expect("it listens");
            let mut ending = Box::pin(async move { ends.shutdown().await });
            // At once where the socket has a descriptor (before 6.13).
            let ended = poll_with(ending.as_mut(), Waker::noop()).is_ready();
            let mut other = worker.connect(addr).await.expect("it listens");
            at_the_end(worker, move || {
                assert!(ended || poll_with(ending.as_mut(), Waker::noop()).is_ready());
                drop(send);
                drop(recv);
                assert!(other.try_push("late").is_err());
                other.set_recv_timeout(Some(Duration::from_millis(1)));
                let mut recv = Box::pin(other.recv());
                let _ = poll_with(recv.as_mut(), Waker::noop());
            });
        });
    }
}

// ---- many who start ----

#[test]
fn a_pool_whose_handle_ended_on_its_worker_is_started_by_one_at_a_time() {
    kio::pool! { struct Orphan; entry = idle, calls = 2 x 4 KiB, buffers = 16 x 4 KiB, pin = off }
    static HANDLE: Mutex<Option<Handle<Orphan>>> = Mutex::new(None);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..scaled(100) {
                    let pool = Orphan::start_when_free().expect("held nothing");
                    assert_eq!(RUNS.fetch_add(1, Ordering::SeqCst), 0, "two runs at once");
                    pool.on(0, async |worker| {
                        let orphan = worker.spawn(async || {
                            yield_now().await;
                            while HANDLE.lock().expect("no panic").take().is_none() {
                                yield_now().await;
                            }
                        });
                        drop(orphan.expect("room"));
                    })
                    .expect("it runs");
                    RUNS.fetch_sub(1, Ordering::SeqCst);
                    // Dropped there, it stops the pool, which nobody joins but the next who starts.
                    *HANDLE.lock().expect("no panic") = Some(pool);
                }
            });
        }
    });
    Orphan::start_when_free().expect("held nothing").join_soon();
}

#[test]
fn a_worker_does_not_wait_for_the_end_of_its_own_pool() {
    on_worker(async |_| match Strangers::start_when_free().map(drop) {
        Err(Error::Start(StartError::AlreadyRunning)) => {}
        other => panic!("{other:?}"),
    });
}
