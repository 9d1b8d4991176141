//! What tasks meet at: between the tasks of one worker, between workers, and with plain threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use embassy_futures::block_on;
use embassy_futures::join::join;
use embassy_sync::channel::Channel as LocalChannel;
use embassy_sync::mutex::Mutex;
use embassy_sync::semaphore::{FairSemaphore, Semaphore};
use embassy_sync::signal::Signal;
use kio::sync::{Baton, Channel, Event, TryRecvError, TrySendError, WorkerRawMutex};
use kio::{Core, Error, Handle, Worker};
use kio_tests::{again, is_child, poll_then_drop, scaled, yield_now};

kio::pool! {
    struct Meet;
    workers = 2,
    pin = off,
    entry = idle,
    spawn = 16 x 1 KiB,
    calls = 16 x 2 KiB,
    conns = 1,
    buffers = 1 x 4 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

fn end<P: kio::__private::Pool>(pool: Handle<P>) {
    pool.stop();
    pool.join().expect("a clean end");
}

/// Polls it once, by nobody who would be woken.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls it once, by whoever runs, and forgets it.
async fn forget<F: Future>(future: F) {
    let mut future = Box::pin(future);
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    std::mem::forget(future);
}

/// Awaits it, and sets the baton once it has been pending.
async fn telling<F: Future>(pending: &Baton, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            pending.set();
        }
        polled
    })
    .await
}

// ---- embassy-sync within a worker ----

#[test]
fn embassys_channel_signal_mutex_and_semaphore_work_within_a_worker() {
    static JOBS: LocalChannel<WorkerRawMutex, u32, 2> = LocalChannel::new();
    static SUM: Mutex<WorkerRawMutex, u32> = Mutex::new(0);
    static SLOTS: FairSemaphore<WorkerRawMutex, 8> = FairSemaphore::new(2);
    static DONE: Signal<WorkerRawMutex, u32> = Signal::new();
    const JOB_COUNT: u32 = 100;
    const TASKS: u32 = 4;

    async fn work(busy: &Cell<u32>) -> bool {
        let job = JOBS.receive().await;
        let _slot = SLOTS.acquire(1).await.expect("room in the line");
        busy.set(busy.get() + 1);
        assert!(busy.get() <= 2, "two slots");
        let mut sum = SUM.lock().await;
        let before = *sum;
        yield_now().await;
        *sum = before + job;
        busy.set(busy.get() - 1);
        if *sum == JOB_COUNT * (JOB_COUNT + 1) / 2 {
            DONE.signal(*sum);
        }
        job != 0
    }

    let pool = Meet::start_when_free().expect("starts");
    let sum = pool.on(1, async |worker: Worker<Meet>| {
        let busy = std::rc::Rc::new(Cell::new(0));
        for _ in 0..TASKS {
            let busy = std::rc::Rc::clone(&busy);
            let task = worker.spawn(move || async move { while work(&busy).await {} });
            drop(task.expect("room"));
        }
        for job in 1..=JOB_COUNT {
            JOBS.send(job).await;
        }
        let sum = DONE.wait().await;
        for _ in 0..TASKS {
            JOBS.send(0).await;
        }
        sum
    });
    assert_eq!(sum, Ok(JOB_COUNT * (JOB_COUNT + 1) / 2));
    end(pool);
}

#[test]
fn a_second_workers_use_of_a_raw_mutex_is_refused_while_the_first_runs() {
    static SHARED: LocalChannel<WorkerRawMutex, usize, 4> = LocalChannel::new();
    for first in [0, 1] {
        // The workers of the run before have ended: whoever comes first has it.
        let pool = Meet::start_when_free().expect("starts");
        let other = 1 - first;
        let send = |worker| pool.on(worker, async move |_| SHARED.try_send(worker).is_ok());
        assert_eq!(send(first), Ok(true));
        assert!(matches!(send(other), Err(Error::Other(_))), "its task panicked");
        assert!(thread::spawn(|| SHARED.try_send(9)).join().is_err(), "a plain thread panicked");
        assert_eq!(send(first), Ok(true));
        let left = pool.on(first, async |_| (SHARED.receive().await, SHARED.receive().await));
        assert_eq!(left, Ok((first, first)));
        end(pool);
    }
    // And with no worker about, a plain thread.
    assert!(SHARED.try_receive().is_err());
}

#[test]
fn a_raw_mutex_may_be_taken_within_itself_and_is_free_after_a_panic() {
    use embassy_sync::blocking_mutex::raw::RawMutex;
    let mutex = WorkerRawMutex::new();
    assert_eq!(mutex.lock(|| mutex.lock(|| 5)), 5);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        mutex.lock(|| mutex.lock(|| panic!("inside")));
    }));
    assert!(panicked.is_err());
    // Another thread has it only if it was given back.
    assert!(thread::scope(|scope| scope.spawn(|| mutex.lock(|| true)).join().is_ok()));
}

#[test]
fn two_threads_are_never_inside_a_raw_mutex_at_once() {
    use embassy_sync::blocking_mutex::Mutex as Blocking;
    static COUNT: Blocking<WorkerRawMutex, Cell<u64>> = Blocking::new(Cell::new(0));
    if !is_child() {
        // In a process of its own, for its panic hook.
        let child = again("two_threads_are_never_inside_a_raw_mutex_at_once");
        let ended = child.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
        return;
    }
    // Plain threads, which the check lets in one after another: what is left is the exclusion. Each
    // use that is refused panics, of which there is no word to be made.
    std::panic::set_hook(Box::new(|_| {}));
    let entered: u64 = thread::scope(|scope| {
        let add = || {
            let mut entered = 0;
            for _ in 0..scaled(50_000) {
                let add = || COUNT.lock(|count| count.set(count.get() + 1));
                entered += u64::from(std::panic::catch_unwind(add).is_ok());
            }
            entered
        };
        let threads = [scope.spawn(add), scope.spawn(add)];
        threads.map(|thread| thread.join().expect("it ends")).iter().sum()
    });
    drop(std::panic::take_hook());
    assert_eq!(COUNT.lock(Cell::get), entered);
}

// ---- Baton ----

#[test]
fn a_baton_set_before_the_wait_is_ready_at_once() {
    static BATON: Baton = Baton::new();
    let pool = Meet::start_when_free().expect("starts");
    assert!(BATON.set());
    assert!(!BATON.set(), "set once");
    for _ in 0..2 {
        pool.on(0, async |_| BATON.wait().await).expect("it runs");
        assert!(BATON.is_set(), "it stays set");
    }
    assert!(BATON.reset());
    assert!(!BATON.is_set());
    end(pool);
}

#[test]
fn a_baton_set_by_a_thread_wakes_the_task_that_waits() {
    static BATON: Baton = Baton::new();
    static WAITS: Baton = Baton::new();
    static NEWS: AtomicUsize = AtomicUsize::new(0);
    let pool = Meet::start_when_free().expect("starts");
    for round in 1..=scaled(300) {
        thread::scope(|scope| {
            let task = scope.spawn(|| {
                pool.on(1, async |_| {
                    telling(&WAITS, BATON.wait()).await;
                    NEWS.load(Ordering::Relaxed)
                })
            });
            block_on(WAITS.wait());
            assert!(!BATON.reset(), "somebody waits");
            NEWS.store(round, Ordering::Relaxed);
            assert!(BATON.set());
            assert_eq!(task.join().expect("no panic"), Ok(round));
        });
        assert!(BATON.reset() && WAITS.reset());
    }
    end(pool);
}

#[test]
fn a_wait_for_a_baton_that_is_dropped_makes_room_for_another() {
    static BATON: Baton = Baton::new();
    let pool = Meet::start_when_free().expect("starts");
    for worker in [0, 1, 0] {
        let waited = pool.on(worker, async |_| poll_then_drop(1, BATON.wait()).await);
        assert_eq!(waited, Ok(None));
        assert!(BATON.reset(), "nobody waits");
    }
    assert!(BATON.set());
    end(pool);
}

#[test]
fn a_second_wait_for_a_baton_panics_and_the_first_goes_on() {
    static BATON: Baton = Baton::new();
    static WAITS: Baton = Baton::new();
    let pool = Meet::start_when_free().expect("starts");
    thread::scope(|scope| {
        let first = scope.spawn(|| pool.on(0, async |_| telling(&WAITS, BATON.wait()).await));
        block_on(WAITS.wait());
        let second = pool.on(1, async |_| BATON.wait().await);
        assert!(matches!(second, Err(Error::Other(_))), "{second:?}");
        BATON.set();
        assert_eq!(first.join().expect("no panic"), Ok(()));
    });
    assert_eq!(pool.on(1, async |_| BATON.wait().await), Ok(()));
    end(pool);
}

#[test]
fn a_wait_for_a_baton_that_is_forgotten_dangles_nothing() {
    static BATON: Baton = Baton::new();
    let pool = Meet::start_when_free().expect("starts");
    pool.on(0, async |_| forget(BATON.wait()).await).expect("it runs");
    assert!(!BATON.reset(), "its place is taken for good");
    assert!(BATON.set());
    pool.on(1, async |_| BATON.wait().await).expect("it runs");
    end(pool);
    // The task whose waker was left is gone, and its pool at rest.
    assert!(!BATON.set());
}

// ---- Event ----

#[test]
fn an_event_set_by_a_thread_wakes_all_tasks_of_both_workers() {
    static EVENT: Event = Event::new();
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    static WOKEN: AtomicUsize = AtomicUsize::new(0);
    const TASKS: usize = 8;
    let pool = Meet::start_when_free().expect("starts");
    for round in 1..=scaled(100) {
        thread::scope(|scope| {
            let calls: Vec<_> = (0..2)
                .map(|worker| {
                    let pool = &pool;
                    scope.spawn(move || {
                        pool.on(worker, async move |worker: Worker<Meet>| {
                            for _ in 0..TASKS - 1 {
                                let task = worker.spawn(|| async {
                                    let mut wait = pin!(EVENT.wait());
                                    let mut counted = false;
                                    poll_fn(|cx| {
                                        let polled = wait.as_mut().poll(cx);
                                        if !std::mem::replace(&mut counted, true) {
                                            WAITING.fetch_add(1, Ordering::SeqCst);
                                        }
                                        polled
                                    })
                                    .await;
                                    WOKEN.fetch_add(1, Ordering::SeqCst);
                                });
                                drop(task.expect("room"));
                            }
                            // Given up, among those who wait.
                            poll_then_drop(1, EVENT.wait()).await;
                            EVENT.wait().await;
                            WOKEN.fetch_add(1, Ordering::SeqCst);
                        })
                    })
                })
                .collect();
            // In every third round some find it set already.
            while round % 3 != 0 && WAITING.load(Ordering::SeqCst) < round * 2 * (TASKS - 1) {
                thread::yield_now();
            }
            scope.spawn(|| EVENT.set());
            EVENT.set();
            for call in calls {
                call.join().expect("no panic").expect("it runs");
            }
            while WOKEN.load(Ordering::SeqCst) < round * 2 * TASKS {
                thread::yield_now();
            }
        });
        EVENT.reset();
        assert!(!EVENT.is_set());
    }
    end(pool);
}

#[test]
fn a_reset_does_not_keep_from_waking_who_waited_when_it_was_set() {
    let event = Event::new();
    let mut early = pin!(event.wait());
    assert!(poll_once(early.as_mut()).is_pending());
    event.set();
    event.reset();
    let mut late = pin!(event.wait());
    assert!(poll_once(late.as_mut()).is_pending());
    assert!(poll_once(early.as_mut()).is_ready());
    assert!(poll_once(late.as_mut()).is_pending());
    event.set();
    assert!(poll_once(late.as_mut()).is_ready());
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_from_being_woken() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a foreign waker");
        }
    }
    let panics = Waker::from(Arc::new(Panics));
    let mut cx = Context::from_waker(&panics);
    let event = Event::new();
    let (mut first, mut second) = (pin!(event.wait()), pin!(event.wait()));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    event.set();
    event.reset();
    assert!(poll_once(first.as_mut()).is_ready());
    assert!(poll_once(second.as_mut()).is_ready());
    // And the value in hand is not lost.
    let channel = Channel::<u32, 1>::new();
    let (sender, mut receiver) = (channel.sender().expect("open"), channel.receiver().expect("is"));
    assert_eq!(sender.try_send(1), Ok(()));
    let mut send = pin!(sender.send(2));
    assert!(send.as_mut().poll(&mut cx).is_pending());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert!(poll_once(send.as_mut()).is_ready());
}

#[test]
fn waits_for_an_event_that_are_forgotten_or_outlive_their_worker_dangle_nothing() {
    static EVENT: Event = Event::new();
    let pool = Meet::start_when_free().expect("starts");
    for worker in [0, 1] {
        pool.on(worker, async |worker: Worker<Meet>| {
            forget(EVENT.wait()).await;
            // Dropped by the stop.
            drop(worker.spawn(|| async { EVENT.wait().await }).expect("room"));
            yield_now().await;
            forget(EVENT.wait()).await;
        })
        .expect("it runs");
    }
    let hidden = pool.on(0, async |_| {
        let mut hidden = Box::pin(EVENT.wait());
        poll_fn(|cx| Poll::Ready(hidden.as_mut().poll(cx))).await.is_pending().then_some(hidden)
    });
    end(pool);
    EVENT.set();
    let mut hidden = hidden.expect("it ran").expect("it waited");
    assert!(poll_once(hidden.as_mut()).is_ready());
    EVENT.reset();
    assert!(poll_once(pin!(EVENT.wait())).is_pending());
}

// ---- Channel ----

#[test]
fn a_channel_between_two_workers_keeps_the_order_through_full_and_empty() {
    static NUMBERS: Channel<usize, 64> = Channel::new();
    static FULL: Baton = Baton::new();
    static EMPTY: Baton = Baton::new();
    let pool = Meet::start_when_free().expect("starts");
    let items = scaled(100_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            let sent = pool.on(0, async move |_| {
                let sender = NUMBERS.sender().expect("open");
                for item in 0..items {
                    if item == items / 2 {
                        EMPTY.wait().await; // until all so far were taken
                    }
                    telling(&FULL, sender.send(item)).await.expect("the receiver is there");
                }
            });
            sent.expect("it runs");
        });
        let received = pool.on(1, async |_| {
            let mut receiver = NUMBERS.receiver().expect("not taken");
            FULL.wait().await;
            let mut next = 0;
            while let Some(item) = telling(&EMPTY, receiver.recv()).await {
                assert_eq!(item, next);
                next += 1;
            }
            next
        });
        assert_eq!(received, Ok(items));
    });
    end(pool);
}

#[test]
fn many_senders_that_give_up_lose_and_double_nothing() {
    static NUMBERS: Channel<(usize, usize), 3> = Channel::new();
    const SENDERS: usize = 5;
    let items = scaled(4_000);

    async fn send_all(from: usize, items: usize) {
        let sender = NUMBERS.sender().expect("open");
        for item in 0..items {
            let mut round = 0;
            loop {
                // Now and then given up where it stands; else until it is sent.
                round += 1;
                let polls =
                    if (item + from + round).is_multiple_of(3) { usize::MAX } else { round };
                match poll_then_drop(polls, sender.send((from, item))).await {
                    Some(sent) => break sent.expect("the receiver is there"),
                    None => yield_now().await,
                }
            }
        }
    }

    let pool = Meet::start_when_free().expect("starts");
    // Kept, so that the first who has sent all does not close it.
    let open = NUMBERS.sender().expect("open");
    let received = thread::scope(|scope| {
        for from in 0..SENDERS {
            let pool = &pool;
            scope.spawn(move || match from {
                0 => block_on(send_all(from, items)), // a plain thread
                _ => pool.on(from % 2, async move |_| send_all(from, items).await).expect("runs"),
            });
        }
        pool.on(1, async move |_| {
            let mut receiver = NUMBERS.receiver().expect("not taken");
            let mut next = [0; SENDERS];
            let mut polls = 0;
            while next.iter().sum::<usize>() < SENDERS * items {
                polls = polls % 3 + 1;
                match poll_then_drop(polls, receiver.recv()).await {
                    Some(Some((from, item))) => {
                        assert_eq!(item, next[from], "of {from}");
                        next[from] += 1;
                    }
                    Some(None) => panic!("a sender is kept"),
                    None => yield_now().await,
                }
            }
            next
        })
    });
    assert_eq!(received, Ok([items; SENDERS]));
    drop(open);
    end(pool);
}

#[test]
fn sends_that_wait_are_served_in_order_and_a_try_does_not_go_before_them() {
    let channel = Channel::<u32, 1>::new();
    let (sender, mut receiver) = (channel.sender().expect("open"), channel.receiver().expect("is"));
    assert_eq!(sender.try_send(1), Ok(()));
    let (mut second, mut third) = (Box::pin(sender.send(2)), pin!(sender.send(3)));
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(third.as_mut()).is_pending());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    // The free place is the second's, whoever asks.
    assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
    assert!(poll_once(third.as_mut()).is_pending());
    // Given up, it is the third's.
    drop(second);
    assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
    assert!(poll_once(third.as_mut()).is_ready());
    assert_eq!(receiver.try_recv(), Ok(3));
    assert_eq!(sender.try_send(4), Ok(()));
    assert_eq!(receiver.len(), 1);
}

#[test]
fn a_forgotten_send_keeps_one_place_and_dangles_nothing() {
    let channel = Channel::<Arc<()>, 2>::new();
    let value = Arc::new(());
    for _ in 0..2 {
        let sender = channel.sender().expect("as new");
        let mut receiver = channel.receiver().expect("as new");
        for _ in 0..2 {
            assert!(sender.try_send(Arc::clone(&value)).is_ok());
        }
        block_on(forget(sender.send(Arc::clone(&value))));
        assert!(receiver.try_recv().is_ok(), "its place goes to the forgotten one");
        assert!(receiver.try_recv().is_ok());
        assert!(sender.try_send(Arc::clone(&value)).is_ok());
        assert!(sender.try_send(Arc::clone(&value)).is_err());
        assert!(receiver.try_recv().is_ok());
    }
    assert_eq!(Arc::strong_count(&value), 1 + 2, "the two that were forgotten");
}

#[test]
fn a_channel_whose_senders_are_gone_gives_what_is_left_and_then_none() {
    static NUMBERS: Channel<u32, 4> = Channel::new();
    static WAITS: Baton = Baton::new();
    let pool = Meet::start_when_free().expect("starts");
    for _ in 0..2 {
        // All gone before the receiver is taken.
        let sender = NUMBERS.sender().expect("as new");
        let another = sender.clone();
        assert_eq!(sender.try_send(1), Ok(()));
        drop(sender);
        assert_eq!(another.try_send(2), Ok(()));
        drop(another);
        assert!(NUMBERS.sender().is_none(), "closed");
        let received = pool.on(0, async |_| {
            let mut receiver = NUMBERS.receiver().expect("not taken");
            assert!(NUMBERS.receiver().is_none(), "taken");
            (receiver.recv().await, receiver.recv().await, receiver.recv().await)
        });
        assert_eq!(received, Ok((Some(1), Some(2), None)));
        // The last goes, or closes, while the receiver waits.
        for closes in [false, true] {
            thread::scope(|scope| {
                let sender = NUMBERS.sender().expect("as new");
                let received = scope.spawn(|| {
                    pool.on(1, async |_| {
                        let mut receiver = NUMBERS.receiver().expect("not taken");
                        telling(&WAITS, receiver.recv()).await
                    })
                });
                block_on(WAITS.wait());
                if closes {
                    sender.close();
                    assert_eq!(sender.try_send(3), Err(TrySendError::Closed(3)));
                } else {
                    drop(sender);
                }
                assert_eq!(received.join().expect("no panic"), Ok(None));
            });
            assert!(WAITS.reset());
        }
    }
    end(pool);
}

#[test]
fn a_send_whose_receiver_goes_gets_its_value_back() {
    static VALUES: Channel<Arc<u32>, 1> = Channel::new();
    static WAITS: Baton = Baton::new();
    let pool = Meet::start_when_free().expect("starts");
    let kept = Arc::new(1);
    for closes in [false, true] {
        let (first, second) = (Arc::clone(&kept), Arc::clone(&kept));
        thread::scope(|scope| {
            let mut receiver = VALUES.receiver().expect("as new");
            let sent = scope.spawn(|| {
                pool.on(0, async move |_| {
                    let sender = VALUES.sender().expect("open");
                    sender.send(first).await.expect("room");
                    let second = telling(&WAITS, sender.send(second)).await;
                    assert!(sender.is_closed());
                    second.expect_err("no receiver").into_inner()
                })
            });
            block_on(WAITS.wait());
            if closes {
                receiver.close();
                assert!(VALUES.sender().is_none());
                assert!(receiver.try_recv().is_ok(), "what is in it stays");
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
            } else {
                drop(receiver);
            }
            assert_eq!(sent.join().expect("no panic"), Ok(Arc::clone(&kept)));
        });
        assert!(WAITS.reset());
        assert_eq!(Arc::strong_count(&kept), 1);
    }
    end(pool);
}

/// Counts how often it is woken.
struct Count(AtomicUsize);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn each_side_of_a_channel_is_woken_once_and_only_while_it_waits() {
    let channel = Channel::<u32, 2>::new();
    let (sender, mut receiver) = (channel.sender().expect("open"), channel.receiver().expect("is"));
    let counts = [const { Count(AtomicUsize::new(0)) }; 3].map(Arc::new);
    let woken = |nth: usize| counts[nth].0.swap(0, Ordering::SeqCst);
    let wakers = counts.clone().map(Waker::from);
    let mut cx = wakers.each_ref().map(Context::from_waker);
    // Given up, it is woken by nobody; waiting, by the first value.
    assert!(Box::pin(receiver.recv()).as_mut().poll(&mut cx[0]).is_pending());
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(woken(0), 0);
    assert_eq!(receiver.try_recv(), Ok(1));
    {
        let mut recv = pin!(receiver.recv());
        assert!(recv.as_mut().poll(&mut cx[0]).is_pending());
        assert!(recv.as_mut().poll(&mut cx[0]).is_pending());
        assert_eq!((sender.try_send(2), sender.try_send(3)), (Ok(()), Ok(())));
        assert_eq!(woken(0), 1);
        assert_eq!(recv.as_mut().poll(&mut cx[0]), Poll::Ready(Some(2)));
    }
    assert_eq!(sender.try_send(4), Ok(()));
    // Two senders wait: each is woken by the place that is its own.
    let (mut fifth, mut sixth) = (Box::pin(sender.send(5)), Box::pin(sender.send(6)));
    assert!(fifth.as_mut().poll(&mut cx[1]).is_pending());
    assert!(sixth.as_mut().poll(&mut cx[2]).is_pending());
    assert_eq!(receiver.try_recv(), Ok(3));
    assert_eq!((woken(0), woken(1), woken(2)), (0, 1, 0));
    assert_eq!(receiver.try_recv(), Ok(4));
    assert_eq!((woken(0), woken(1), woken(2)), (0, 0, 1));
    assert!(fifth.as_mut().poll(&mut cx[1]).is_ready());
    drop(sixth);
    assert_eq!(receiver.try_recv(), Ok(5));
    assert_eq!((woken(0), woken(1), woken(2)), (0, 0, 0));
    drop(fifth);
    drop(wakers);
    assert!(counts.iter().all(|count| Arc::strong_count(count) == 1), "no waker was left");
}

#[test]
fn a_stop_drops_who_waits_and_the_statics_serve_the_next_run() {
    static FULL: Channel<Arc<()>, 1> = Channel::new();
    static EMPTY: Channel<Arc<()>, 1> = Channel::new();
    static BATON: Baton = Baton::new();
    static EVENT: Event = Event::new();
    static WAITING: [Baton; 4] = [const { Baton::new() }; 4];
    let value = Arc::new(());
    for _ in 0..scaled(20) {
        let pool = Meet::start_when_free().expect("starts");
        let sent = Arc::clone(&value);
        let waits = pool.on(0, async move |worker: Worker<Meet>| {
            let send = worker.spawn(|| async move {
                let sender = FULL.sender().expect("as new");
                sender.send(Arc::clone(&sent)).await.expect("room");
                telling(&WAITING[0], sender.send(sent)).await.expect_err("nobody receives");
            });
            let baton = worker.spawn(|| telling(&WAITING[1], BATON.wait()));
            drop((send.expect("room"), baton.expect("room")));
        });
        waits.expect("it runs");
        let waits = pool.on(1, async |worker: Worker<Meet>| {
            let receive = worker.spawn(|| async {
                let mut receiver = EMPTY.receiver().expect("as new");
                assert!(telling(&WAITING[2], receiver.recv()).await.is_none(), "nobody sends");
            });
            let event = worker.spawn(|| telling(&WAITING[3], EVENT.wait()));
            drop((receive.expect("room"), event.expect("room")));
        });
        waits.expect("it runs");
        for waiting in &WAITING {
            block_on(waiting.wait());
        }
        end(pool);
        assert!(WAITING.iter().all(Baton::reset));
        assert!(BATON.reset(), "nobody waits");
        // What had been sent stays for a receiver, and is dropped with it.
        assert_eq!(Arc::strong_count(&value), 2);
        drop(FULL.receiver().expect("not taken"));
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

// ---- memory ----

/// The system's allocator, which counts what the workers of `Quiet` ask of it.
struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get) == Ok(true) {
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

kio::pool! {
    struct Quiet;
    workers = 2,
    pin = off,
    entry = count_from_here,
    calls = 4 x 2 KiB,
    conns = 1,
    buffers = 1 x 4 KiB,
}

async fn count_from_here(_: Core) -> kio::Result<()> {
    COUNTED.set(true);
    Ok(())
}

#[test]
fn meeting_allocates_nothing() {
    static NUMBERS: Channel<usize, 4> = Channel::new();
    static LOCAL: LocalChannel<WorkerRawMutex, usize, 4> = LocalChannel::new();
    static STARTED: Event = Event::new();
    static ENDED: Baton = Baton::new();
    let pool = Quiet::start_when_free().expect("starts");
    let items = scaled(2_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            let sent = pool.on(0, async move |_| {
                join(STARTED.wait(), STARTED.wait()).await;
                let sender = NUMBERS.sender().expect("open");
                let send = async {
                    for item in 0..items {
                        sender.send(LOCAL.receive().await).await.expect("a receiver");
                        if item % 7 == 0 {
                            yield_now().await;
                        }
                    }
                };
                let make = async {
                    for item in 0..items {
                        LOCAL.send(item).await;
                    }
                };
                join(send, make).await;
                ENDED.wait().await;
            });
            sent.expect("it runs");
        });
        let received = pool.on(1, async move |_| {
            let mut receiver = NUMBERS.receiver().expect("not taken");
            STARTED.set();
            let mut sum = 0;
            while let Some(item) = receiver.recv().await {
                sum += item;
                if item + 1 == items {
                    ENDED.set();
                }
            }
            sum
        });
        assert_eq!(received, Ok(items * (items - 1) / 2));
    });
    end(pool);
    assert_eq!(ALLOCATED.load(Ordering::SeqCst), 0);
}

#[test]
fn meeting_points_in_statics_are_all_zero_while_idle() {
    fn is_zero<T>(value: &T) -> bool {
        let at = std::ptr::from_ref(value).cast::<u8>();
        // SAFETY: inside one value; what is padding or unwritten is zero in a static.
        (0..size_of::<T>()).all(|i| unsafe { std::ptr::read_volatile(at.add(i)) } == 0)
    }
    static CHANNEL: Channel<[u64; 8], 16> = Channel::new();
    static EVENT: Event = Event::new();
    static RAW: WorkerRawMutex = WorkerRawMutex::new();
    assert!(is_zero(&CHANNEL) && is_zero(&EVENT) && is_zero(&RAW));
}
