//! Calls from other threads: any number at once, each answered exactly once, whatever happens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use kio::{Core, Error, State, Worker};
use kio_tests::{scaled, yield_now};

/// Counts what happens on its worker.
struct Count(std::cell::Cell<u64>);

impl State for Count {
    type Args = ();

    fn init(_: Core, (): &()) -> kio::Result<Self> {
        Ok(Self(std::cell::Cell::new(0)))
    }
}

kio::pool! {
    struct Calls;
    workers = 2,
    pin = off,
    entry = idle,
    state = Count,
    spawn = 4 x 1 KiB,
    calls = 4 x 1 KiB,
    conns = 1,
    buffers = 1 x 4 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

#[test]
fn calls_from_eight_threads_at_once_all_give_their_values() {
    let pool = Calls::start_when_free(()).expect("starts");
    let rounds = scaled(2_000) as u64;
    thread::scope(|scope| {
        for nth in 0..8u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..rounds {
                    let to = (nth + round) as usize % 2;
                    let value = pool.on(to, async move |worker| {
                        let state = worker.state();
                        state.0.set(state.0.get() + 1);
                        if round % 3 == 0 {
                            yield_now().await;
                        }
                        (worker.index(), vec![nth, round])
                    });
                    assert_eq!(value, Ok((to, vec![nth, round])));
                }
            });
        }
    });
    let counted: u64 =
        (0..2).map(|to| pool.on(to, async |worker| worker.state().0.get()).expect("it runs")).sum();
    assert_eq!(counted, 8 * rounds);
    let calls: u64 = pool.stats().map(|stats| stats.calls).sum();
    assert_eq!(calls, 8 * rounds + 2);
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
fn more_callers_than_slots_wait_their_turn() {
    let pool = Calls::start_when_free(()).expect("starts");
    let (begun, inside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    thread::scope(|scope| {
        for _ in 0..32 {
            let (pool, begun, inside) = (&pool, Arc::clone(&begun), Arc::clone(&inside));
            scope.spawn(move || {
                let called = pool.on(0, async move |worker: Worker<Calls>| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    worker.sleep(std::time::Duration::from_millis(2)).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    now
                });
                let inside = called.expect("it runs");
                assert!(inside <= 4, "{inside} at once in 4 slots");
            });
        }
    });
    assert_eq!(begun.load(Ordering::SeqCst), 32);
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
fn a_panic_in_a_call_is_its_callers_error_only() {
    let pool = Calls::start_when_free(()).expect("starts");
    for _ in 0..20 {
        let before = pool.on(0, async |_| panic!("before its first await"));
        assert!(matches!(before, Err::<(), _>(Error::Other(_))));
        let after = pool.on(0, async |_| {
            yield_now().await;
            panic!("after it")
        });
        assert!(matches!(after, Err::<(), _>(Error::Other(_))));
        assert_eq!(pool.on(0, async |_| 5), Ok(5));
    }
    assert_eq!(pool.stats().map(|stats| stats.panics).sum::<u64>(), 40);
    assert!(pool.stats().all(|stats| stats.tasks == 1 || stats.tasks == 0));
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
fn a_panic_in_the_drop_of_a_call_leaves_the_worker_running() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    let pool = Calls::start_when_free(()).expect("starts");
    let value = pool.on(0, async |_| {
        let _bomb = PanicsInDrop;
        5
    });
    assert!(matches!(value, Err(Error::Other(_))), "{value:?}");
    let captured = PanicsInDrop;
    let value = pool.on(0, async move |_| {
        let _captured = &captured;
        6
    });
    // The value was there before the capture was dropped.
    assert!(matches!(value, Ok(6) | Err(Error::Other(_))), "{value:?}");
    assert_eq!(pool.on(0, async |_| 7), Ok(7));
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
fn a_call_after_the_stop_answers_stopped() {
    let pool = Calls::start_when_free(()).expect("starts");
    pool.on(0, async |worker: Worker<Calls>| worker.stop()).expect("it runs");
    pool.stop();
    // Refused for good as soon as both have ended.
    while pool.on(0, async |_| ()).is_ok() || pool.on(1, async |_| ()).is_ok() {
        thread::yield_now();
    }
    assert_eq!(pool.on(0, async |_| ()), Err(Error::Stopped));
    assert_eq!(pool.on(1, async |_| ()), Err(Error::Stopped));
    assert!(pool.is_stopping());
    pool.join().expect("a clean end");
}

#[test]
fn a_call_from_a_workers_own_thread_is_an_error() {
    let pool = Arc::new(Calls::start_when_free(()).expect("starts"));
    for from in 0..2 {
        for to in 0..2 {
            let inner = Arc::clone(&pool);
            let called = pool.on(from, async move |_| inner.on(to, async |_| ()));
            assert!(matches!(called, Ok(Err(Error::Other(_)))), "{called:?}");
        }
    }
    // The closures' handles are dropped on the workers, maybe after the calls returned.
    let mut pool = pool;
    let pool = loop {
        match Arc::try_unwrap(pool) {
            Ok(pool) => break pool,
            Err(shared) => pool = shared,
        }
        thread::yield_now();
    };
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
fn a_stop_answers_every_caller() {
    for round in 0..scaled(50) {
        let pool = Calls::start_when_free(()).expect("starts");
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for nth in 0..12 {
                let (pool, tell) = (&pool, tell.clone());
                scope.spawn(move || {
                    let answer = pool.on(nth % 2, async move |_| {
                        tell.send(()).expect("heard");
                        std::future::pending::<()>().await
                    });
                    assert!(answer.is_err());
                });
            }
            // Some are inside (all slots, or none yet), the others wait.
            for _ in 0..round % 9 {
                told.recv().expect("it begins");
            }
            pool.stop();
        });
        pool.join().expect("a clean end");
    }
}

#[test]
fn a_stop_amid_a_storm_of_calls_answers_all() {
    for _ in 0..scaled(30) {
        let pool = Calls::start_when_free(()).expect("starts");
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for nth in 0..4 {
                let (pool, answered) = (&pool, &answered);
                scope.spawn(move || {
                    while pool.on(nth % 2, async |_| yield_now().await).is_ok() {
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            while answered.load(Ordering::SeqCst) < 50 {
                thread::yield_now();
            }
            pool.stop();
        });
        pool.join().expect("a clean end");
    }
}

#[test]
fn what_a_call_spawns_outlives_it() {
    let pool = Calls::start_when_free(()).expect("starts");
    let (tell, told) = mpsc::channel();
    pool.on(1, async move |worker: Worker<Calls>| {
        let task = async move || {
            yield_now().await;
            tell.send(worker.index()).expect("heard");
        };
        drop(worker.spawn(task).expect("room"));
    })
    .expect("it runs");
    assert_eq!(told.recv(), Ok(1));
    pool.stop();
    pool.join().expect("a clean end");
}

#[test]
#[should_panic = "worker 2 of 2"]
fn a_call_to_a_worker_that_is_not_there_panics() {
    let pool = Calls::start_when_free(()).expect("starts");
    let _ = pool.on(2, async |_| ());
}
