//! Calls between workers: order, room, giving up, and the end. What is moved into a call carries a
//! token that counts those alive, so that what is lost or dropped twice shows.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::thread;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kio::net::TcpStream;
use kio::{Call, CallError, Core, Error, Handle, State, Worker};
use kio_tests::{client, poll_then_drop, scaled, yield_now};

/// What happened on a worker, in order.
struct Log(RefCell<Vec<u64>>);

impl State for Log {
    type Args = ();

    fn init(_: Core, (): &()) -> kio::Result<Self> {
        Ok(Self(RefCell::default()))
    }
}

kio::pool! {
    struct Pair;
    workers = 2,
    pin = off,
    entry = idle,
    state = Log,
    spawn = 96 x 4 KiB,
    calls = 4 x 512 B,
    conns = 1,
    buffers = 1 x 4 KiB,
    drain = 50 ms, // tasks that go on calling are not waited for
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// One alive of those counted; what crosses workers carries one.
struct Token(&'static AtomicI64);

static ALIVE: AtomicI64 = AtomicI64::new(0);

impl Token {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self(&ALIVE)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The pool, and the tokens, for one test at a time.
struct Alone {
    pool: Option<Handle<Pair>>,
    _alone: MutexGuard<'static, ()>,
}

fn start() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    ALIVE.store(0, Ordering::SeqCst);
    Alone { pool: Some(Pair::start_when_free(()).expect("starts")), _alone: alone }
}

impl std::ops::Deref for Alone {
    type Target = Handle<Pair>;

    fn deref(&self) -> &Handle<Pair> {
        self.pool.as_ref().expect("it runs")
    }
}

impl Alone {
    /// Stops the pool, whose memory must all be free again, and every token dropped.
    fn ends(mut self) {
        let pool = self.pool.take().expect("it runs");
        pool.stop();
        pool.join().expect("a clean end");
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0, "tokens that were lost, or dropped twice");
        Pair::start_when_free(()).expect("nothing was held").join_after_stop();
    }

    /// Runs a task on a worker, outside of any call, and gives its value.
    fn task<T, Fut>(
        &self,
        worker: usize,
        make: impl FnOnce(Worker<Pair>) -> Fut + Send + 'static,
    ) -> T
    where
        T: Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let (tell, told) = mpsc::channel();
        self.on(worker, async move |worker: Worker<Pair>| {
            let task = worker.spawn(move || {
                let future = make(worker);
                async move { tell.send(future.await).expect("heard") }
            });
            drop(task.expect("room for a task"));
        })
        .expect("it runs");
        told.recv_timeout(kio_tests::HANG).expect("the task ends")
    }
}

trait JoinAfterStop {
    fn join_after_stop(self);
}

impl JoinAfterStop for Handle<Pair> {
    fn join_after_stop(self) {
        self.stop();
        self.join().expect("a clean end");
    }
}

/// Pending until it is told, on any worker.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(bool, Vec<std::task::Waker>)>>);

impl Gate {
    fn open(&self) {
        let mut gate = self.0.lock().expect("nobody panics");
        gate.0 = true;
        let wakers = std::mem::take(&mut gate.1);
        drop(gate);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut gate = self.0.lock().expect("nobody panics");
        if gate.0 {
            return Poll::Ready(());
        }
        gate.1.push(cx.waker().clone());
        Poll::Pending
    }
}

/// Calls that fill the arena of a worker, and hold it until the gate opens.
fn fill(pool: &Alone, worker: usize, gate: &Gate) {
    let (tell, told) = mpsc::channel();
    for _ in 0..4 {
        let (gate, tell) = (gate.clone(), tell.clone());
        pool.task(1 - worker, move |from| async move {
            let hold = async move || {
                let call = from.on(worker, async move |_| {
                    tell.send(()).expect("heard");
                    gate.await;
                });
                call.await.expect("it runs");
            };
            drop(from.spawn(hold).expect("room for a task"));
        });
    }
    for _ in 0..4 {
        told.recv_timeout(kio_tests::HANG).expect("it begins");
    }
}

#[test]
fn a_call_runs_on_the_worker_it_names_and_gives_its_value() {
    let pool = start();
    for from in 0..2 {
        for to in 0..2 {
            let token = Token::new();
            let value = pool.task(from, move |worker| async move {
                let value = worker.on(to, async move |there| {
                    yield_now().await;
                    // What is bound to its worker may live across an await of the call.
                    let here = Rc::new(there.index());
                    yield_now().await;
                    (*here, token)
                });
                value.await.map(|(there, _token)| (worker.index(), there))
            });
            assert_eq!(value.expect("it runs"), (from, to));
        }
    }
    pool.ends();
}

#[test]
fn a_key_belongs_to_one_worker_wherever_it_is_asked() {
    let pool = start();
    let keys = |worker: Worker<Pair>| -> Vec<usize> {
        (0..100u32).map(|key| worker.by_key(&key.to_le_bytes())).collect()
    };
    let first = pool.task(0, move |worker| async move { keys(worker) });
    let second = pool.task(1, move |worker| async move { keys(worker) });
    assert_eq!(first, second);
    assert!(first.contains(&0) && first.contains(&1) && first.iter().all(|to| *to < 2));
    pool.ends();
}

/// Calls a worker so many times at once, and tells in which order they began there.
fn order(pool: &Alone, from: usize, to: usize, calls: u64) -> Vec<u64> {
    pool.task(from, move |worker| async move {
        let all: FuturesUnordered<_> = (0..calls)
            .map(|nth| {
                worker.on(to, async move |there| {
                    let state = there.state();
                    state.0.borrow_mut().push(nth);
                    if nth % 3 == 0 {
                        yield_now().await;
                    }
                })
            })
            .collect();
        all.for_each(|ended| async move { ended.expect("it runs") }).await;
        let log = worker.on(to, async |there| std::mem::take(&mut *there.state().0.borrow_mut()));
        log.await.expect("it runs")
    })
}

#[test]
fn the_calls_of_one_task_begin_in_order_however_little_room_there_is() {
    let pool = start();
    for calls in [3, 4, 50] {
        for (from, to) in [(0, 1), (1, 1)] {
            // FuturesUnordered polls the first it was given last pushed first: what counts is the
            // order of the first polls, and all that are new are polled in one.
            let began = order(&pool, from, to, calls);
            let (mut up, mut down) = (began.clone(), began.clone());
            up.sort_unstable();
            down.sort_unstable_by_key(|nth| std::cmp::Reverse(*nth));
            assert!(began == up || began == down, "{calls} calls began as {began:?}");
            assert_eq!(up, (0..calls).collect::<Vec<_>>());
        }
    }
    pool.ends();
}

#[test]
fn callers_on_both_workers_and_threads_share_a_small_arena_and_all_are_answered() {
    let pool = start();
    let rounds = scaled(3_000);
    thread::scope(|scope| {
        for nth in 0..16 {
            let pool = &pool;
            scope.spawn(move || {
                if nth < 2 {
                    for _ in 0..rounds {
                        pool.on(0, async |_| yield_now().await).expect("it runs");
                    }
                    return;
                }
                pool.task(nth % 2, move |worker| async move {
                    for round in 0..rounds {
                        let token = Token::new();
                        let called = worker.on(0, async move |_| {
                            if round % 5 == 0 {
                                yield_now().await;
                            }
                            (round, token)
                        });
                        assert_eq!(called.await.expect("it runs").0, round);
                    }
                });
            });
        }
    });
    let waited: u64 = pool.stats().map(|stats| stats.call_waits).sum();
    assert!(waited > 0, "16 callers of 4 slots never waited");
    pool.ends();
}

#[test]
fn two_workers_that_call_each_other_back_never_wait_for_each_other_for_ever() {
    let pool = start();
    let rounds = scaled(500);
    let (full, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    thread::scope(|scope| {
        for nth in 0..12usize {
            let (pool, full, answered) = (&pool, Arc::clone(&full), Arc::clone(&answered));
            scope.spawn(move || {
                pool.task(nth % 2, move |here| async move {
                    for round in 0..rounds {
                        let home = here.index();
                        let back = here.on(1 - home, async move |there| {
                            yield_now().await;
                            let back = there.on(home, async move |again| (again.index(), round));
                            back.await.map_err(|error| {
                                assert!(matches!(error, CallError::Full(_)), "{error:?}");
                                Error::from(error)
                            })
                        });
                        match back.await.expect("the outer call waits for room") {
                            Ok(value) => {
                                assert_eq!(value, (home, round));
                                answered.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(_) => {
                                full.fetch_add(1, Ordering::SeqCst);
                            }
                        }
                    }
                });
            });
        }
    });
    assert_eq!(full.load(Ordering::SeqCst) + answered.load(Ordering::SeqCst), 12 * rounds);
    assert!(answered.load(Ordering::SeqCst) > 0);
    let counted: u64 = pool.stats().map(|stats| stats.calls_full).sum();
    assert_eq!(counted as usize, full.load(Ordering::SeqCst));
    pool.ends();
}

#[test]
fn a_call_inside_of_a_call_to_a_full_arena_gets_its_closure_back() {
    let pool = start();
    let gate = Gate::default();
    fill(&pool, 1, &gate);
    let token = Token::new();
    let refused = pool.on(0, async move |worker| {
        let call = worker.on(1, async move |_| drop(token));
        let Err(CallError::Full(closure)) = call.await else {
            panic!("a full arena");
        };
        let alive = ALIVE.load(Ordering::SeqCst);
        drop(closure);
        (alive, ALIVE.load(Ordering::SeqCst))
    });
    assert_eq!(refused, Ok((1, 0)));
    gate.open();
    pool.ends();
}

#[test]
fn a_caller_that_goes_away_cancels_what_it_asked_for() {
    let pool = start();
    let (tell, told) = mpsc::channel();
    let kept = Token::new();
    pool.task(0, move |worker| async move {
        let begun = Gate::default();
        let inside = begun.clone();
        let mut call = Box::pin(worker.on(1, async move |_| {
            let _kept = kept;
            inside.open();
            std::future::pending::<()>().await
        }));
        futures_util::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        begun.await;
        drop(call);
        tell.send(()).expect("heard");
    });
    told.recv().expect("dropped");
    // The future over there is dropped at its next turn; nothing else tells when that was.
    while ALIVE.load(Ordering::SeqCst) > 0 {
        thread::yield_now();
    }
    pool.ends();
}

#[test]
fn a_call_given_up_before_its_busy_worker_took_it_is_never_begun() {
    let pool = start();
    let (begun, go) = (mpsc::channel(), mpsc::channel::<()>());
    pool.task(1, move |worker| async move {
        let busy = async move || {
            begun.0.send(()).expect("heard");
            go.1.recv().expect("told"); // it blocks its whole worker, as it should not
        };
        drop(worker.spawn(busy).expect("room for a task"));
    });
    begun.1.recv().expect("it blocks");
    let token = Token::new();
    pool.task(0, move |worker| async move {
        let call = worker.on(1, async move |_| {
            let _token = token;
            panic!("nobody wants it any more");
        });
        assert!(poll_then_drop::<Call<_, ()>>(1, call).await.is_none());
    });
    assert_eq!(ALIVE.load(Ordering::SeqCst), 1, "it is in the busy worker's slot");
    go.0.send(()).expect("heard");
    while ALIVE.load(Ordering::SeqCst) > 0 {
        thread::yield_now();
    }
    assert_eq!(pool.stats().map(|stats| stats.panics).sum::<u64>(), 0);
    pool.ends();
}

#[test]
fn calls_given_up_at_every_moment_lose_no_slot_and_no_token() {
    let pool = start();
    let rounds = scaled(4_000);
    thread::scope(|scope| {
        for nth in 0..10usize {
            let pool = &pool;
            scope.spawn(move || {
                pool.task(nth % 2, move |worker| async move {
                    for round in 0..rounds {
                        let (inside, value) = (Token::new(), Token::new());
                        let call = worker.on(round % 2, async move |_| {
                            for _ in 0..round % 4 {
                                yield_now().await;
                            }
                            drop(inside);
                            value
                        });
                        // Each poll is a wake-up, its own or the answer's.
                        let call = async {
                            let mut call = std::pin::pin!(call);
                            std::future::poll_fn(|cx| {
                                cx.waker().wake_by_ref();
                                call.as_mut().poll(cx)
                            })
                            .await
                            .is_ok()
                        };
                        let answered = poll_then_drop((round / 4) % 7, call).await;
                        assert_ne!(answered, Some(false));
                    }
                });
            });
        }
    });
    pool.ends();
}

#[test]
fn one_that_waits_for_room_and_gives_up_lets_the_next_through() {
    let pool = start();
    let gate = Gate::default();
    fill(&pool, 1, &gate);
    let done = pool.task(0, move |worker| async move {
        let mut first = Box::pin(worker.on(1, async |_| 1));
        let mut second = Box::pin(worker.on(1, async |_| 2));
        let mut third = Box::pin(worker.on(1, async |_| 3));
        std::future::poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            assert!(second.as_mut().poll(cx).is_pending());
            assert!(third.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(first);
        std::mem::forget(second); // keeps its place for ever, as far as it knows
        gate.open();
        third.await.expect("it runs")
    });
    assert_eq!(done, 3);
    pool.ends();
}

#[test]
fn a_panic_in_a_call_is_its_callers_error_only() {
    let pool = start();
    for _ in 0..20 {
        let lost = pool.task(0, |worker| async move {
            let token = Token::new();
            let before = worker.on(1, async move |_| {
                let _token = token;
                panic!("before its first await")
            });
            assert!(matches!(before.await, Err::<(), _>(CallError::Lost)));
            let token = Token::new();
            let after = worker.on(1, async move |_| {
                let _token = token;
                yield_now().await;
                panic!("after it")
            });
            matches!(after.await, Err::<(), _>(CallError::Lost))
        });
        assert!(lost);
    }
    assert_eq!(pool.stats().map(|stats| stats.panics).sum::<u64>(), 40);
    pool.ends();
}

#[test]
fn a_stop_amid_calls_answers_every_caller() {
    for round in 0..scaled(60) {
        let pool = start();
        let answered = Arc::new(AtomicUsize::new(0));
        for from in 0..2 {
            let answered = Arc::clone(&answered);
            pool.task(from, move |worker| async move {
                for nth in 0..12 {
                    let answered = Arc::clone(&answered);
                    let calls = async move || {
                        loop {
                            let token = Token::new();
                            let call = worker.on(nth % 2, async move |_| {
                                yield_now().await;
                                token
                            });
                            match call.await {
                                Ok(_token) => answered.fetch_add(1, Ordering::SeqCst),
                                Err(CallError::Full(_)) => panic!("a task waits for room"),
                                Err(_) => break,
                            };
                        }
                    };
                    drop(worker.spawn(calls).expect("room for a task"));
                }
            });
        }
        while answered.load(Ordering::SeqCst) < round % 50 {
            thread::yield_now();
        }
        pool.ends();
    }
}

#[test]
fn a_call_after_the_stop_gives_its_closure_back() {
    thread_local! {
        static HIDDEN: RefCell<Option<Ends>> = const { RefCell::new(None) };
    }
    /// Dropped with its thread's locals, after the worker's loop.
    struct Ends(Worker<Pair>, mpsc::Sender<bool>);
    impl Drop for Ends {
        fn drop(&mut self) {
            let token = Token::new();
            let mut call = Box::pin(self.0.on(0, async move |_| token));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let refused = matches!(
                call.as_mut().poll(&mut cx),
                Poll::Ready(Err(CallError::Stopped(_closure)))
            );
            self.1.send(refused).expect("heard");
        }
    }
    let pool = start();
    let (tell, told) = mpsc::channel();
    pool.task(1, move |worker| async move {
        HIDDEN.set(Some(Ends(worker, tell)));
    });
    pool.ends();
    assert_eq!(told.recv(), Ok(true));
}

/// Posts a call from worker 0 to worker 1 and keeps what waits for it.
async fn posted(worker: Worker<Keeps>) -> Pin<Box<dyn Future<Output = ()>>> {
    let call = worker.on(1, async |_| vec![1, 2, 3]);
    let mut call = Box::pin(async move { drop(call.await) });
    std::future::poll_fn(|cx| {
        assert!(call.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    call
}

kio::pool! {
    struct Keeps;
    workers = 2,
    pin = off,
    entry = idle,
    calls = 4 x 256 B,
    conns = 1,
    buffers = 1 x 4 KiB,
}

#[test]
fn a_call_that_is_kept_past_the_stop_or_forgotten_keeps_its_slot_and_retires_the_pool() {
    thread_local! {
        static HIDDEN: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> =
            const { RefCell::new(None) };
    }
    let pool = Keeps::start_when_free().expect("starts");
    pool.on(0, async |worker| HIDDEN.set(Some(posted(worker).await))).expect("it runs");
    pool.stop();
    pool.join().expect("a clean end");
    // It is dropped as its thread ends, before worker 1 counts what is held or after.
    let pool = match Keeps::start_when_free() {
        Err(Error::Start(kio::StartError::Retired(held))) => {
            assert_eq!(held.tasks, 1);
            return;
        }
        again => again.expect("starts again"),
    };
    pool.on(0, async |worker| std::mem::forget(posted(worker).await)).expect("it runs");
    pool.stop();
    pool.join().expect("a clean end");
    let again = Keeps::start_when_free();
    assert!(matches!(again, Err(Error::Start(kio::StartError::Retired(held))) if held.tasks == 1));
}

#[test]
#[should_panic = "worker 2 of 2"]
fn a_call_to_a_worker_that_is_not_there_panics() {
    let pool = start();
    let panicked = pool.task(0, |worker| async move {
        let call = std::panic::AssertUnwindSafe(|| drop(worker.on(2, async |_| ())));
        std::panic::catch_unwind(call).expect_err("no such worker")
    });
    pool.ends();
    std::panic::resume_unwind(panicked);
}

// ---- from the start on, and while connections drain ----

thread_local! {
    /// Calls that this worker's entry made before the others had started.
    static FIRST: Cell<u64> = const { Cell::new(0) };
}

kio::pool! {
    struct Serves;
    workers = 3,
    pin = off,
    entry = serve,
    tasks = { session: 8 },
    calls = 2 x 256 B,
    conns = 16,
    buffers = 32 x 4 KiB,
}

async fn serve(worker: Worker<Serves>) -> kio::Result<()> {
    // At once, when others may have no memory yet.
    for to in 0..worker.workers() {
        worker.on(to, async |_| FIRST.set(FIRST.get() + 1)).await?;
    }
    if worker.index() != 1 {
        return Ok(());
    }
    let mut listener = worker.listen("127.0.0.1:0").await?;
    loop {
        let place = worker.reserve(session).await?;
        let conn = listener.accept().await?;
        place.spawn(move || session(worker, conn));
    }
}

/// Answers each byte with how often the entries called worker 0.
async fn session(worker: Worker<Serves>, mut conn: TcpStream) -> kio::Result<()> {
    while let Some(asked) = conn.recv().await? {
        for _ in 0..asked.len() {
            let first = worker.on(0, async |_| FIRST.get()).await?;
            conn.push_copy(&[first as u8]).await?;
        }
        conn.flush().await?;
    }
    conn.close().await
}

#[test]
fn entries_may_call_each_other_at_once_and_connections_call_until_they_are_drained() {
    for _ in 0..scaled(10) {
        let pool = Serves::start_when_free().expect("starts");
        let mut client = client(pool.local_addr().expect("it listens"));
        let mut answer = [0];
        // Until all three have called.
        while answer[0] != 3 {
            client.write_all(b"?").expect("it serves");
            client.read_exact(&mut answer).expect("an answer");
        }
        pool.stop();
        // Workers 0 and 2 have no connection left, and 0 answers as long as 1 has one.
        for _ in 0..20 {
            client.write_all(b"??").expect("it drains");
            let mut answers = [0; 2];
            client.read_exact(&mut answers).expect("two answers");
            assert_eq!(answers, [3, 3]);
        }
        drop(client);
        pool.join().expect("a clean end");
    }
}

#[test]
fn a_hundred_thousand_calls_from_each_of_eight_threads_are_all_answered() {
    let pool = start();
    let rounds = scaled(100_000) as u64;
    thread::scope(|scope| {
        for nth in 0..8u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..rounds {
                    let answer = pool.on((nth + round) as usize % 2, async move |_| nth + round);
                    assert_eq!(answer, Ok(nth + round));
                }
            });
        }
    });
    let calls: u64 = pool.stats().map(|stats| stats.calls).sum();
    assert_eq!(calls, 8 * rounds);
    pool.ends();
}
