//! Sleeps, timeouts and intervals: in order, never early, gone when dropped.

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use kio::time::{Elapsed, Sleep};
use kio::{Core, Error, StartError, Worker};
use kio_tests::{poll_then_drop, scaled, yield_now};

kio::pool! {
    struct Clock;
    entry = idle,
    spawn = 256 x 1 KiB,
    calls = 4 x 16 KiB,
    conns = 1,
    buffers = 1 x 4 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Runs `body` on a worker, which must end with nothing held.
fn on_worker<R, F>(body: F) -> R
where
    F: AsyncFnOnce(Worker<Clock>) -> R + Send + 'static,
    R: Send + 'static,
{
    let pool = Clock::start_when_free().expect("the last run held nothing");
    let value = pool.on(0, body).expect("the body ends");
    pool.stop();
    pool.join().expect("a clean end");
    if let Err(Error::Start(StartError::Retired(held))) = Clock::start().map(drop) {
        panic!("the run ended with {held:?}");
    }
    value
}

#[test]
fn sleeps_end_in_order_and_never_early() {
    on_worker(async |worker| {
        let ended = Rc::new(RefCell::new(Vec::new()));
        let mut handles = Vec::new();
        // Each in a tick of its own, in no order.
        for nth in 0..40u32 {
            let span = 2 * MS * (nth * 7 % 40);
            let ended = Rc::clone(&ended);
            let spawned = worker.spawn(move || async move {
                let begun = worker.now();
                worker.sleep(span).await;
                assert!(begun.elapsed() >= span, "{:?} of {span:?}", begun.elapsed());
                ended.borrow_mut().push(span);
            });
            handles.push(spawned.expect("room"));
        }
        for handle in handles {
            handle.await.expect("no panic");
        }
        assert!(ended.borrow().is_sorted(), "{:?}", ended.borrow());
    });
}

#[test]
fn a_sleep_until_the_past_ends_at_once() {
    on_worker(async |worker| {
        let now = worker.now();
        worker.sleep_until(now).await;
        worker.sleep_until(now - HOUR).await;
        worker.sleep(Duration::ZERO).await;
        assert!(poll_then_drop(1, worker.sleep_until(now)).await.is_some());
    });
}

#[test]
fn a_sleep_without_end_is_pending_and_can_be_dropped() {
    on_worker(async |worker| {
        for span in [Duration::MAX, HOUR * 24 * 365 * 300, HOUR] {
            let mut sleep = Box::pin(worker.sleep(span));
            for _ in 0..3 {
                poll_fn(|cx| {
                    assert!(sleep.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                worker.sleep(MS).await;
            }
        }
    });
}

#[test]
fn ten_thousand_sleeps_may_be_dropped() {
    let count = scaled(10_000);
    on_worker(async move |worker| {
        let mut sleeps: Vec<_> =
            (0..count).map(|nth| Box::pin(worker.sleep(MS * (1 + nth as u32 * 37)))).collect();
        let poll_all = async |sleeps: &mut Vec<Pin<Box<Sleep>>>| {
            poll_fn(|cx| {
                for sleep in sleeps.iter_mut() {
                    let _ = sleep.as_mut().poll(cx);
                }
                Poll::Ready(())
            })
            .await;
        };
        poll_all(&mut sleeps).await;
        // Every second first, then from the front, so that links are mended in all places.
        let mut nth = 0;
        sleeps.retain(|_| {
            nth += 1;
            nth % 2 == 0
        });
        poll_all(&mut sleeps).await;
        sleeps.drain(..sleeps.len() / 2);
        let begun = worker.now();
        worker.sleep(5 * MS).await;
        assert!(begun.elapsed() >= 5 * MS);
        drop(sleeps);
        worker.sleep(MS).await;
    });
}

#[test]
fn ten_thousand_sleeps_end_in_one_task() {
    let count = scaled(10_000);
    on_worker(async move |worker| {
        let mut sleeps: FuturesUnordered<_> = (0..count)
            .map(|nth| async move {
                let span = MS / 10 * (nth as u32 % 300);
                let begun = worker.now();
                worker.sleep(span).await;
                assert!(begun.elapsed() >= span);
            })
            .collect();
        let mut ended = 0;
        while sleeps.next().await.is_some() {
            ended += 1;
        }
        assert_eq!(ended, count);
    });
}

#[test]
fn a_timeout_gives_the_value_or_says_that_the_time_is_over() {
    on_worker(async |worker| {
        assert_eq!(worker.timeout(HOUR, async { 7 }).await, Ok(7));
        assert_eq!(worker.timeout(Duration::ZERO, async { 7 }).await, Ok(7));
        let begun = worker.now();
        assert_eq!(worker.timeout(5 * MS, pending::<()>()).await, Err(Elapsed));
        assert!(begun.elapsed() >= 5 * MS);
        let at = worker.now() + 5 * MS;
        let slow = async {
            worker.sleep(HOUR).await;
        };
        assert_eq!(worker.deadline(at, slow).await, Err(Elapsed));
        assert!(worker.now() >= at);
        let quick = async {
            worker.sleep(MS).await;
            "value"
        };
        assert_eq!(worker.timeout(HOUR, quick).await, Ok("value"));
        let nested =
            worker.timeout(HOUR, worker.timeout(MS, worker.timeout(HOUR, pending::<()>())));
        assert_eq!(nested.await, Ok(Err(Elapsed)));
    });
}

#[test]
fn an_interval_ticks_at_its_rate_and_skips_what_it_missed() {
    on_worker(async |worker| {
        let period = 4 * MS;
        let begun = worker.now();
        let mut interval = worker.interval(period);
        let mut last = interval.tick().await;
        assert!(last - begun >= period);
        for _ in 0..5 {
            let tick = interval.tick().await;
            assert!(worker.now() >= tick, "early");
            let apart = tick - last;
            assert!(apart >= period);
            assert_eq!(apart.as_nanos() % period.as_nanos(), 0);
            last = tick;
        }
        let after = worker.now();
        worker.sleep(10 * period).await;
        let late = interval.tick().await;
        assert!(late <= after + period, "the one that is due comes first");
        let next = interval.tick().await;
        assert!(next - late >= 8 * period, "the others were skipped");
        assert!(worker.now() >= next);
    });
}

#[test]
fn a_tick_given_up_is_still_to_come() {
    on_worker(async |worker| {
        let mut interval = worker.interval(5 * MS);
        let begun = worker.now();
        for _ in 0..100 {
            assert!(poll_then_drop(1, interval.tick()).await.is_none_or(|tick| tick > begun));
        }
        interval.tick().await;
        assert!(begun.elapsed() >= 5 * MS);
    });
}

#[test]
fn a_sleep_wakes_the_task_that_polled_it_last() {
    on_worker(async |worker| {
        let mut sleep = Box::pin(worker.sleep(5 * MS));
        poll_fn(|cx| {
            assert!(sleep.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let other = worker.spawn(move || sleep).expect("room");
        other.await.expect("no panic");
    });
}

#[test]
fn forgotten_sleeps_hurt_nobody() {
    on_worker(async |worker| {
        for nth in 0..100 {
            let mut sleep = Box::pin(worker.sleep(MS * (nth % 10)));
            poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())).await;
            std::mem::forget(sleep);
            yield_now().await;
        }
        worker.sleep(12 * MS).await;
    });
}
