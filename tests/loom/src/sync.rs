//! Models of `kio::sync`: no wake is lost, no value is lost or doubled, whatever is given up.

#![allow(dead_code, unused_imports, reason = "kio's files, of which the models use a part")]

#[path = "../../../kio/src/sync/baton.rs"]
mod baton;
#[path = "../../../kio/src/sync/channel.rs"]
mod channel;
#[path = "../../../kio/src/sync/errors.rs"]
mod errors;
#[path = "../../../kio/src/sync/event.rs"]
mod event;
#[path = "../../../kio/src/sync/transfer.rs"]
mod transfer;

use errors::{SendError, TryRecvError, TrySendError};

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use loom::cell::UnsafeCell;
    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::thread;

    use super::baton::Baton;
    use super::channel::{Channel, Sender};
    use super::event::Event;

    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    /// Polls once and drops: given up.
    fn give_up<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    /// A baton, and what its setter writes before it sets.
    struct News {
        baton: Baton,
        news: UnsafeCell<u32>,
    }

    // SAFETY: loom checks the accesses.
    unsafe impl Sync for News {}

    #[test]
    fn a_baton_wakes_who_waits_and_shows_what_was_written() {
        check(|| {
            let news = Arc::new(News { baton: Baton::new(), news: UnsafeCell::new(0) });
            let setter = Arc::clone(&news);
            let thread = thread::spawn(move || {
                // SAFETY: the only writer, before it sets.
                setter.news.with_mut(|news| unsafe { *news = 1 });
                assert!(setter.baton.set());
            });
            block_on(news.baton.wait());
            // SAFETY: after the setter.
            assert_eq!(news.news.with(|news| unsafe { *news }), 1);
            assert!(news.baton.reset());
            assert!(!news.baton.is_set());
            thread.join().unwrap();
        });
    }

    #[test]
    fn a_wait_for_a_baton_that_is_given_up_leaves_it_to_the_next() {
        check(|| {
            let baton = Arc::new(Baton::new());
            let setter = Arc::clone(&baton);
            let thread = thread::spawn(move || assert!(setter.set()));
            give_up(baton.wait());
            block_on(baton.wait());
            thread.join().unwrap();
        });
    }

    #[test]
    fn one_of_two_setters_sets_a_baton() {
        check(|| {
            let baton = Arc::new(Baton::new());
            let setter = Arc::clone(&baton);
            let thread = thread::spawn(move || setter.set());
            let here = baton.set();
            assert!(here != thread.join().unwrap());
        });
    }

    #[test]
    fn an_event_wakes_all_who_wait() {
        check(|| {
            let event = Arc::new(Event::new());
            let waiter = Arc::clone(&event);
            let thread = thread::spawn(move || block_on(waiter.wait()));
            let setter = Arc::clone(&event);
            let other = thread::spawn(move || setter.set());
            give_up(event.wait());
            block_on(event.wait());
            thread.join().unwrap();
            other.join().unwrap();
        });
    }

    #[test]
    fn a_channel_of_one_carries_all_in_order() {
        check(|| {
            let channel = Arc::new(Channel::<u32, 1>::new());
            let sending = Arc::clone(&channel);
            let thread = thread::spawn(move || {
                let sender = sending.sender().unwrap();
                for value in 0..3 {
                    block_on(sender.send(value)).unwrap();
                }
            });
            let mut receiver = channel.receiver().unwrap();
            for value in 0..3 {
                assert_eq!(block_on(receiver.recv()), Some(value));
            }
            thread.join().unwrap();
            assert_eq!(block_on(receiver.recv()), None);
        });
    }

    #[test]
    fn two_senders_both_find_their_place() {
        check(|| {
            let channel = Arc::new(Channel::<u32, 1>::new());
            // Open until the receiver goes: one may be gone before the other has its sender.
            std::mem::forget(channel.sender());
            let threads = [1, 2].map(|value| {
                let sending = Arc::clone(&channel);
                thread::spawn(move || {
                    block_on(sending.sender().unwrap().send(value)).unwrap();
                })
            });
            let mut receiver = channel.receiver().unwrap();
            let mut sum = 0;
            for _ in 0..2 {
                sum += block_on(receiver.recv()).unwrap();
            }
            assert_eq!(sum, 3);
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn a_send_given_up_sends_nothing_and_keeps_no_place() {
        check(|| {
            let channel = Arc::new(Channel::<u32, 1>::new());
            let sending = Arc::clone(&channel);
            let thread = thread::spawn(move || {
                let sender = sending.sender().unwrap();
                block_on(sender.send(1)).unwrap();
                let second = give_up(sender.send(2)).is_some();
                block_on(sender.send(3)).unwrap();
                second
            });
            let mut receiver = channel.receiver().unwrap();
            let mut received = Vec::new();
            while let Some(value) = block_on(receiver.recv()) {
                received.push(value);
            }
            let second = thread.join().unwrap();
            assert_eq!(received, if second { vec![1, 2, 3] } else { vec![1, 3] });
        });
    }

    #[test]
    fn a_recv_given_up_loses_nothing() {
        check(|| {
            let channel = Arc::new(Channel::<u32, 2>::new());
            let sending = Arc::clone(&channel);
            let thread = thread::spawn(move || {
                let sender = sending.sender().unwrap();
                block_on(sender.send(1)).unwrap();
                block_on(sender.send(2)).unwrap();
            });
            let mut receiver = channel.receiver().unwrap();
            let mut received = Vec::new();
            received.extend(give_up(receiver.recv()).flatten());
            while let Some(value) = block_on(receiver.recv()) {
                received.push(value);
            }
            assert_eq!(received, [1, 2]);
            thread.join().unwrap();
        });
    }

    #[test]
    fn a_receiver_that_goes_gives_every_value_back_or_drops_it() {
        check(|| {
            let channel = Arc::new(Channel::<std::sync::Arc<()>, 1>::new());
            let value = std::sync::Arc::new(());
            let held = std::sync::Arc::clone(&value);
            let sending = Arc::clone(&channel);
            // Taken before, so that the channel is not as new in between.
            let receiver = channel.receiver().unwrap();
            std::mem::forget(channel.sender().unwrap());
            let thread = thread::spawn(move || {
                let Some(sender) = sending.sender() else { return };
                let first = block_on(sender.send(std::sync::Arc::clone(&held)));
                let second = block_on(sender.send(held));
                assert!(second.is_err() && Sender::is_closed(&sender));
                drop((first, second));
            });
            drop(receiver);
            thread.join().unwrap();
            assert_eq!(std::sync::Arc::strong_count(&value), 1);
        });
    }
}
