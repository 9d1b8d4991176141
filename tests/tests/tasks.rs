//! Tasks: spawning into declared room, joining, aborting, panicking, and being woken from anywhere.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;

use kio::{Core, Error, FailureKind, JoinError, JoinHandle, SpawnError, StartError, Worker};
use kio_tests::{scaled, yield_now};

kio::pool! {
    struct Tasks;
    entry = idle,
    tasks = { wait: 2, numbered: 4, pair: 1, never: 1 },
    spawn = 64 x 1 KiB,
    calls = 4 x 16 KiB,
    conns = 4,
    buffers = 16 x 4 KiB,
    on_error = note,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// What `on_error` was told in this run of the pool.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(_: Core, failure: &kio::Failure<'_>) {
    let text = match failure.kind {
        FailureKind::Error(error) => format!("{} failed: {error:?}", failure.task),
        FailureKind::Panic(text) => format!("{} panicked: {text}", failure.task),
        _ => unreachable!("two ways to fail"),
    };
    TOLD.lock().expect("nobody panics here").push(text);
}

fn told() -> Vec<String> {
    std::mem::take(&mut *TOLD.lock().expect("nobody panics here"))
}

/// Runs `body` on a worker, which must end with nothing held. One test at a time.
fn on_worker<R, F>(body: F) -> R
where
    F: AsyncFnOnce(Worker<Tasks>) -> R + Send + 'static,
    R: Send + 'static,
{
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pool = Tasks::start_when_free().expect("the last run held nothing");
    told();
    let value = pool.on(0, body).expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
    if let Err(Error::Start(StartError::Retired(held))) = Tasks::start().map(drop) {
        panic!("the run ended with {held:?}");
    }
    value
}

/// A door that tasks of one worker wait at.
#[derive(Clone, Default)]
struct Door(Rc<(Cell<bool>, RefCell<Vec<Waker>>)>);

impl Door {
    fn open(&self) {
        self.0.0.set(true);
        self.0.1.take().into_iter().for_each(Waker::wake);
    }

    async fn pass(&self) {
        poll_fn(|cx| {
            if self.0.0.get() {
                return Poll::Ready(());
            }
            self.0.1.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

async fn wait(door: Door) {
    door.pass().await;
}

async fn numbered(door: Door, number: u32) -> Result<u32, String> {
    door.pass().await;
    match number {
        0 => Err("no number".into()),
        number => Ok(number),
    }
}

async fn pair(_: Rc<Cell<u32>>, _: Door) {
    std::future::pending().await
}

async fn never() {
    std::future::pending().await
}

/// Counts when it is dropped.
struct Dropped(Rc<Cell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

// ---- spawn, join, abort ----

#[test]
fn a_joined_task_gives_its_value() {
    on_worker(async |worker| {
        let door = Door::default();
        let (one, two) = (door.clone(), door.clone());
        let first = worker.spawn(|| numbered(one, 1)).expect("room");
        let second = worker.spawn(|| numbered(two, 2)).expect("room");
        assert!(!first.is_finished());
        door.open();
        assert_eq!(second.await, Ok(Ok(2)));
        assert!(first.is_finished());
        assert_eq!(first.await, Ok(Ok(1)));
        let failed = worker.spawn(|| numbered(door, 0)).expect("room");
        assert_eq!(failed.await, Ok(Err("no number".into())));
    });
    assert!(told().is_empty(), "an error that is awaited is nobody else's");
}

#[test]
fn a_detached_task_goes_on() {
    on_worker(async |worker| {
        let done = Door::default();
        let (open, shut) = (Door::default(), done.clone());
        let pass = open.clone();
        let task = async move || {
            pass.pass().await;
            shut.open();
        };
        drop(worker.spawn(task).expect("room"));
        yield_now().await;
        open.open();
        done.pass().await;
    });
}

#[test]
fn a_full_arena_and_an_undeclared_task_give_the_closure_back() {
    async fn large() {
        let room = [0u8; 4096];
        yield_now().await;
        std::hint::black_box(&room);
    }
    on_worker(async |worker| {
        let dropped = Rc::new(Cell::new(0));
        let door = Door::default();
        let handles: Vec<_> =
            (0..2).map(|_| worker.spawn(|| wait(door.clone())).expect("room for two")).collect();
        let (token, pass) = (Dropped(Rc::clone(&dropped)), door.clone());
        let refused = worker.spawn(move || {
            drop(token);
            wait(pass)
        });
        let Err(SpawnError::Full(closure)) = refused else {
            panic!("it is full");
        };
        assert_eq!(dropped.get(), 0);
        door.open();
        for handle in handles {
            handle.await.expect("no panic");
        }
        worker.spawn(closure).expect("room again").await.expect("no panic");
        assert_eq!(dropped.get(), 1);
        assert_eq!(worker.stats().tasks_full, 1);

        match worker.spawn(large) {
            Err(SpawnError::Undeclared(_, name)) => assert!(name.contains("large"), "{name}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_unnamed_future_goes_to_the_spawn_arena() {
    on_worker(async |worker| {
        let mut handles = Vec::new();
        for number in 0..64u64 {
            let spawned = worker.spawn(move || async move {
                yield_now().await;
                Ok::<u64, Error>(number * number)
            });
            handles.push(spawned.expect("room for sixty-four"));
        }
        let over = worker.spawn(|| async { Ok::<u64, Error>(0) });
        assert!(matches!(over, Err(SpawnError::Full(_))));
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.await, Ok(Ok(number * number)));
        }
    });
}

#[test]
fn an_aborted_task_drops_its_future_and_frees_its_slot() {
    on_worker(async |worker| {
        let dropped = Rc::new(Cell::new(0));
        for polled in [false, true] {
            let token = Dropped(Rc::clone(&dropped));
            let spawned = worker.spawn(move || async move {
                let _token = token;
                std::future::pending::<()>().await
            });
            let handle = spawned.expect("room");
            if polled {
                yield_now().await;
            }
            handle.abort();
            handle.abort();
            assert_eq!(handle.await, Err(JoinError::Aborted));
        }
        assert_eq!(dropped.get(), 2);

        let handle = worker.spawn(|| async { Ok::<_, Error>(7) }).expect("room");
        yield_now().await;
        handle.abort();
        assert_eq!(handle.await, Ok(Ok(7)), "too late: it has ended");

        let handle = worker.spawn(never).expect("room");
        handle.abort();
        drop(handle);
        yield_now().await;
        let handle = worker.spawn(never).expect("the slot is free");
        handle.abort();
    });
}

#[test]
fn a_task_may_hold_its_own_handle_and_abort_itself() {
    type Own<T> = Rc<RefCell<Option<JoinHandle<T>>>>;
    on_worker(async |worker| {
        let dropped = Rc::new(Cell::new(0));
        // Ends while it holds its own handle.
        let own: Own<()> = Rc::default();
        let (held, token) = (Rc::clone(&own), Dropped(Rc::clone(&dropped)));
        let spawned = worker.spawn(move || async move {
            let (_token, _held) = (token, held);
            yield_now().await;
        });
        *own.borrow_mut() = Some(spawned.expect("room"));
        drop(own);
        // Aborts itself, goes on to its next await, and is dropped there.
        let own: Own<Result<(), Error>> = Rc::default();
        let (held, token) = (Rc::clone(&own), Dropped(Rc::clone(&dropped)));
        let spawned = worker.spawn(move || async move {
            let _token = token;
            held.borrow().as_ref().expect("put there").abort();
            std::future::pending::<()>().await;
            Ok(())
        });
        *own.borrow_mut() = Some(spawned.expect("room"));
        yield_now().await;
        yield_now().await;
        let handle = own.borrow_mut().take().expect("put there");
        assert_eq!(handle.await, Err(JoinError::Aborted));
        // Drops its own handle in its own poll.
        let own: Own<()> = Rc::default();
        let (held, token) = (Rc::clone(&own), Dropped(Rc::clone(&dropped)));
        let spawned = worker.spawn(move || async move {
            let _token = token;
            drop(held.borrow_mut().take());
            yield_now().await;
        });
        *own.borrow_mut() = Some(spawned.expect("room"));
        // Awaits itself: for ever, until it is aborted.
        let own: Own<()> = Rc::default();
        let (held, token) = (Rc::clone(&own), Dropped(Rc::clone(&dropped)));
        let spawned = worker.spawn(move || async move {
            let _token = token;
            let handle = held.borrow_mut().take().expect("put there");
            let _ = handle.await;
        });
        *own.borrow_mut() = Some(spawned.expect("room"));
        for _ in 0..5 {
            yield_now().await;
        }
        assert_eq!(dropped.get(), 3, "all but the one that awaits itself");
    });
}

#[test]
fn a_handle_awaited_by_another_task_wakes_that_one() {
    on_worker(async |worker| {
        let door = Door::default();
        let pass = door.clone();
        let mut handle = worker.spawn(|| numbered(pass, 9)).expect("room");
        poll_fn(|cx| {
            assert!(Pin::new(&mut handle).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let other = worker.spawn(|| async move { Ok::<_, Error>(handle.await) }).expect("room");
        yield_now().await;
        door.open();
        assert_eq!(other.await, Ok(Ok(Ok(Ok(9)))));
    });
}

// ---- reserve ----

#[test]
fn reserve_waits_first_come_first_served() {
    on_worker(async |worker| {
        let door = Door::default();
        let mut held: Vec<_> =
            (0..2).map(|_| worker.spawn(|| wait(door.clone())).expect("room for two")).collect();
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut waiting = Vec::new();
        for nth in 0..8 {
            let order = Rc::clone(&order);
            let spawned = worker.spawn(move || async move {
                let place = worker.reserve(wait).await.expect("declared");
                order.borrow_mut().push(nth);
                yield_now().await;
                drop(place);
            });
            waiting.push(spawned.expect("room"));
            yield_now().await;
        }
        assert!(order.borrow().is_empty());
        assert_eq!(worker.stats().task_waits, 8);
        held.pop().expect("two").abort(); // and detaches it
        for waits in waiting {
            waits.await.expect("no panic");
        }
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5, 6, 7]);
        drop(held);
        door.open();
    });
}

#[test]
fn a_newcomer_does_not_overtake_who_waits_for_room() {
    on_worker(async |worker| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let first = worker.reserve(never).await.expect("declared");
        let mut waiting = Vec::new();
        for nth in 0..2 {
            let order = Rc::clone(&order);
            let spawned = worker.spawn(move || async move {
                let _place = worker.reserve(never).await.expect("declared");
                order.borrow_mut().push(nth);
                yield_now().await;
            });
            waiting.push(spawned.expect("room"));
            yield_now().await;
        }
        drop(first); // room for the first who waits, before that one had its turn
        let _newcomer = worker.reserve(never).await.expect("declared");
        assert_eq!(*order.borrow(), [0, 1]);
        drop(_newcomer);
        for waits in waiting {
            waits.await.expect("no panic");
        }
    });
}

#[test]
fn a_reserve_given_up_passes_its_room_on() {
    on_worker(async |worker| {
        let first = worker.reserve(never).await.expect("declared");
        let mut given_up = Box::pin(worker.reserve(never));
        poll_fn(|cx| {
            assert!(given_up.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let next = worker
            .spawn(move || async move { worker.reserve(never).await.map(drop) })
            .expect("room");
        yield_now().await;
        drop(first); // `given_up` is told, and never looks
        drop(given_up);
        next.await.expect("no panic").expect("declared");
    });
}

#[test]
fn a_reservation_takes_the_future_of_its_task() {
    on_worker(async |worker| {
        let place = worker.reserve(numbered).await.expect("declared");
        let door = Door::default();
        door.open();
        assert_eq!(place.spawn(|| numbered(door, 5)).await, Ok(Ok(5)));
        async fn undeclared() {}
        let error = worker.reserve(undeclared).await.map(drop).expect_err("not in `tasks`");
        assert!(matches!(error, Error::Other(_)), "{error}");
    });
}

// ---- failures ----

#[test]
fn a_panic_ends_its_task_only() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    async fn panics(message: impl std::any::Any + Send) {
        std::panic::panic_any(message)
    }
    on_worker(async |worker| {
        let door = Door::default();
        let pass = door.clone();
        let bystander = worker.spawn(|| numbered(pass, 3)).expect("room");
        for _ in 0..100 {
            let handle = worker.spawn(|| panics("at its first poll")).expect("room");
            assert_eq!(handle.await, Err(JoinError::Panicked));
        }
        let in_drop = worker.spawn(|| async {
            let _bomb = PanicsInDrop;
            std::future::pending::<()>().await
        });
        let in_drop = in_drop.expect("room");
        yield_now().await;
        in_drop.abort();
        assert!(in_drop.await.is_err());
        let at_end = worker.spawn(|| async {
            let _bomb = PanicsInDrop;
        });
        assert_eq!(at_end.expect("room").await, Err(JoinError::Panicked));
        let output = worker.spawn(|| async { Ok::<_, Error>(PanicsInDrop) });
        drop(output.expect("room")); // nobody takes the value: it panics where it is dropped
        yield_now().await;
        let of_text = worker.spawn(|| panics(5));
        assert_eq!(of_text.expect("room").await, Err(JoinError::Panicked));

        let spawner = worker.spawn(move || async move {
            let refused = worker.spawn(|| -> std::future::Ready<()> { panic!("in the closure") });
            drop(refused);
        });
        assert_eq!(spawner.expect("room").await, Err(JoinError::Panicked));
        assert_eq!(worker.stats().panics, 105);
        door.open();
        assert_eq!(bystander.await, Ok(Ok(3)));
        assert_eq!(worker.stats().tasks, 1, "this one");
    });
    let told = told();
    assert_eq!(told.len(), 105);
    assert_eq!(told[0], "spawn panicked: at its first poll");
    assert!(told[100..].iter().any(|line| line.ends_with("in a drop")));
    assert!(told[104].ends_with("in the closure"));
}

#[test]
fn an_error_nobody_awaits_is_counted_by_kind_and_told() {
    on_worker(async |worker| {
        let door = Door::default();
        door.open();
        drop(worker.spawn(|| numbered(door.clone(), 0)).expect("room"));
        for error in [Error::Stopped, Error::TimedOut, Error::Os { doing: "receive", errno: 104 }] {
            drop(worker.spawn(move || async move { Err::<(), _>(error) }).expect("room"));
        }
        // Detached after it has ended.
        let handle = worker.spawn(|| async { Err::<(), _>(Error::Other("late")) }).expect("room");
        yield_now().await;
        assert!(handle.is_finished());
        drop(handle);
        let stats = worker.stats();
        assert_eq!((stats.failures, stats.routine_failures), (2, 3));
    });
    assert_eq!(told(), ["numbered failed: \"no number\"", "spawn failed: late"]);
}

// ---- wakers ----

#[test]
fn wakes_from_other_threads_are_never_lost() {
    let rounds = scaled(10_000);
    on_worker(async move |_| {
        let (give, take) = mpsc::channel::<(Waker, Arc<AtomicUsize>)>();
        let waking: Vec<_> = std::iter::repeat_with(|| {
            let (give, take) = mpsc::channel::<(Waker, Arc<AtomicUsize>)>();
            let thread = thread::spawn(move || {
                for (waker, woken) in take {
                    woken.fetch_add(1, Ordering::SeqCst);
                    waker.wake();
                }
            });
            (give, thread)
        })
        .take(4)
        .collect();
        drop((give, take));
        for round in 0..rounds {
            let woken = Arc::new(AtomicUsize::new(0));
            let mut asked = false;
            poll_fn(|cx| {
                if woken.load(Ordering::SeqCst) == 1 {
                    return Poll::Ready(());
                }
                if !std::mem::replace(&mut asked, true) {
                    let parcel = (cx.waker().clone(), Arc::clone(&woken));
                    waking[round % 4].0.send(parcel).expect("the thread lives");
                }
                Poll::Pending
            })
            .await;
        }
        for (give, thread) in waking {
            drop(give);
            thread.join().expect("content");
        }
    });
}

#[test]
fn a_waker_may_be_used_by_anybody_for_ever() {
    let (give, take) = mpsc::channel::<Waker>();
    let rounds = scaled(10_000);
    let waking = thread::spawn(move || {
        let mut wakers = Vec::new();
        for waker in take.iter() {
            for _ in 0..rounds {
                waker.wake_by_ref();
            }
            wakers.push(waker.clone());
        }
        wakers
    });
    on_worker(async move |worker| {
        for _ in 0..4 {
            let give = give.clone();
            let spawned = worker.spawn(move || async move {
                poll_fn(|cx| {
                    give.send(cx.waker().clone()).expect("the thread lives");
                    Poll::Ready(())
                })
                .await;
                yield_now().await;
            });
            spawned.expect("room").await.expect("no panic"); // ends while it is woken
        }
    });
    let wakers = waking.join().expect("content");
    assert_eq!(wakers.len(), 4);
    // The pool has stopped.
    for waker in &wakers {
        waker.wake_by_ref();
        assert!(waker.will_wake(&waker.clone()));
    }
    // And runs again, with the same slots.
    on_worker(async move |worker| {
        thread::scope(|scope| {
            scope.spawn(|| wakers.iter().for_each(Waker::wake_by_ref));
        });
        let handle = worker.spawn(|| async { Ok::<_, Error>(1) }).expect("room");
        assert_eq!(handle.await, Ok(Ok(1)));
        drop(wakers);
    });
}

// ---- the end ----

#[test]
fn a_stop_drops_every_future_and_refuses_what_they_spawn() {
    struct SpawnsInDrop(Worker<Tasks>, Arc<AtomicUsize>);
    impl Drop for SpawnsInDrop {
        fn drop(&mut self) {
            let core = self.0.core();
            let refused = core.spawn(|| async {});
            assert!(matches!(refused, Err(SpawnError::Stopped(_))));
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&dropped);
    on_worker(async move |worker| {
        for _ in 0..10 {
            let guard = SpawnsInDrop(worker, Arc::clone(&counts));
            let spawned = worker.spawn(move || async move {
                let _guard = guard;
                std::future::pending::<()>().await
            });
            drop(spawned.expect("room"));
        }
        drop(worker.spawn(|| pair(Rc::default(), Door::default())).expect("room"));
    });
    assert_eq!(dropped.load(Ordering::SeqCst), 10);
}

/// Hides `value` until the worker's thread ends.
fn hide(value: impl std::any::Any) {
    thread_local! {
        static HIDDEN: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
    }
    HIDDEN.with_borrow_mut(|hidden| hidden.push(Box::new(value)));
}

/// Asks everything of a core that has stopped, when it is dropped.
struct AsksLate(Core, mpsc::Sender<Vec<&'static str>>);

impl Drop for AsksLate {
    fn drop(&mut self) {
        let Self(core, tell) = self;
        let mut wrong = Vec::new();
        let mut check = |holds: bool, what| {
            if !holds {
                wrong.push(what);
            }
        };
        check(core.is_stopping(), "is_stopping");
        check(core.try_buf().is_none(), "try_buf");
        check(matches!(core.spawn(|| async {}), Err(SpawnError::Stopped(_))), "spawn");
        check(core.signal(kio::Signal::HUP).is_err(), "signal");
        let mut cx = std::task::Context::from_waker(Waker::noop());
        let hour = std::time::Duration::from_secs(3600);
        check(Box::pin(core.sleep(hour)).as_mut().poll(&mut cx).is_ready(), "sleep");
        check(Box::pin(core.stopping()).as_mut().poll(&mut cx).is_ready(), "stopping");
        let mut buf = Box::pin(core.buf());
        check(matches!(buf.as_mut().poll(&mut cx), Poll::Ready(Err(Error::Stopped))), "buf");
        let mut place = Box::pin(core.reserve(never));
        let polled = place.as_mut().poll(&mut cx).map(|place| place.map(drop));
        check(polled == Poll::Ready(Err(Error::Stopped)), "reserve");
        let mut listen = Box::pin(core.listen("127.0.0.1:0"));
        let polled = listen.as_mut().poll(&mut cx);
        check(matches!(polled, Poll::Ready(Err(Error::Stopped))), "listen");
        let mut connect = Box::pin(core.connect("127.0.0.1:1"));
        let polled = connect.as_mut().poll(&mut cx);
        check(matches!(polled, Poll::Ready(Err(Error::Stopped))), "connect");
        core.stop();
        let _ = (core.now(), core.index(), core.workers(), core.stats(), format!("{core:?}"));
        let _ = tell.send(wrong);
    }
}

#[test]
fn a_core_hidden_until_its_thread_ends_answers_stopped() {
    let (tell, told) = mpsc::channel();
    on_worker(async move |worker| hide(AsksLate(worker.core(), tell)));
    assert_eq!(told.recv().expect("asked"), [""; 0]);
}

#[test]
fn what_is_hidden_until_the_thread_ends_retires_the_pool() {
    kio::pool! { struct Hidden; entry = idle, calls = 2 x 4 KiB, buffers = 16 x 4 KiB }
    let pool = Hidden::start().expect("starts");
    let peer = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = peer.local_addr().expect("bound");
    let body = async move |worker: Worker<Hidden>| {
        let mut buf = worker.buf().await.expect("a buffer");
        buf.put(b"kept").expect("fits");
        let shared = buf.freeze();
        hide(shared.slice(1..3));
        hide(shared);
        hide(worker.buf().await.expect("a buffer"));
        hide(worker.connect(addr).await.expect("it listens"));
        let (recv, send) = worker.connect(addr).await.expect("it listens").into_split();
        hide((recv, send));
        hide(worker.listen("127.0.0.1:0").await.expect("a free port"));
        hide(worker.spawn(std::future::pending::<()>).expect("room"));
        hide(worker.spawn(|| async { Ok::<_, Error>(vec![1]) }).expect("room"));
        hide(Box::pin(worker.sleep(std::time::Duration::from_secs(3600))));
        hide(worker.state());
        yield_now().await;
    };
    pool.on(0, body).expect("the body ends");
    pool.stop();
    pool.stop();
    pool.join().expect("a clean end");
    match Hidden::start().map(drop) {
        Err(Error::Start(StartError::Retired(held))) => {
            assert_eq!((held.ops, held.tasks, held.buffers, held.guards), (0, 2, 2, 1));
        }
        other => panic!("{other:?}"),
    }
    let waited = Hidden::start_when_free().map(drop);
    assert!(matches!(waited, Err(Error::Start(StartError::Retired(_)))), "{waited:?}");
}
