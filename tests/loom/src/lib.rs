//! Models of what threads do to a sleeping worker (foreign wakes, and the park handshake), of calls and
//! the slots in which they cross (`calls`), of what tasks of several workers meet at (`sync`), and of
//! the ring of log records (`logger`). The code under test is kio's own files.
#![cfg(loom)]

#[cfg(test)]
mod calls;
#[cfg(test)]
mod logger;
#[path = "../../../kio/src/task/remote.rs"]
mod remote;
#[path = "../../../kio/src/task/call/slot.rs"]
mod slot;
mod sync;
mod task;

/// As `kio::Error`.
#[allow(dead_code, reason = "only made")]
enum Error {
    Other(&'static str),
}

#[cfg(test)]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::remote::{Bell, RemoteLink, RemoteStack};

    /// What a worker sleeps on: readable once it was rung.
    struct Eventfd {
        count: Mutex<u32>,
        readable: Condvar,
    }

    impl Eventfd {
        fn notify(&self) {
            *self.count.lock().unwrap() += 1;
            self.readable.notify_one();
        }

        fn wait(&self) {
            let mut count = self.count.lock().unwrap();
            while *count == 0 {
                count = self.readable.wait(count).unwrap();
            }
            *count = 0;
        }
    }

    /// A worker with two tasks, and the eventfd it sleeps on.
    struct Worker {
        stack: RemoteStack,
        bell: Bell,
        links: [RemoteLink; 2],
        eventfd: Eventfd,
        rings: AtomicUsize,
        /// What a waker writes before it wakes, and the poll reads.
        news: [UnsafeCell<u32>; 2],
    }

    impl Worker {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                stack: RemoteStack::new(),
                bell: Bell::new(),
                links: [RemoteLink::new(), RemoteLink::new()],
                eventfd: Eventfd { count: Mutex::new(0), readable: Condvar::new() },
                rings: AtomicUsize::new(0),
                news: [UnsafeCell::new(0), UnsafeCell::new(0)],
            })
        }

        /// As `Tasks::wake_remote`.
        fn wake(&self, task: u32) {
            if self.stack.push(task, &self.links[task as usize]) && self.bell.must_ring() {
                self.rings.fetch_add(1, Ordering::Relaxed);
                self.eventfd.notify();
            }
        }

        /// As the loop: takes what is there, and sleeps while nothing is.
        fn run_until(&self, wanted: u32) -> u32 {
            let mut polled = 0;
            loop {
                self.stack.take(
                    |task| &self.links[task as usize],
                    |task| {
                        // SAFETY: loom checks that no writer is about.
                        polled += self.news[task as usize].with(|news| unsafe { *news });
                    },
                );
                if polled >= wanted {
                    return polled;
                }
                self.bell.say_sleeping();
                if self.stack.is_empty() {
                    self.eventfd.wait();
                }
                self.bell.say_awake();
            }
        }
    }

    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    #[test]
    fn a_wake_is_never_lost_to_a_worker_that_goes_to_sleep() {
        check(|| {
            let worker = Worker::new();
            let waker = Arc::clone(&worker);
            let thread = thread::spawn(move || {
                // SAFETY: the only writer, before the wake that publishes it.
                waker.news[0].with_mut(|news| unsafe { *news = 1 });
                waker.wake(0);
            });
            assert_eq!(worker.run_until(1), 1);
            thread.join().unwrap();
            assert!(worker.rings.load(Ordering::Relaxed) <= 1, "more than one ring a sleep");
        });
    }

    #[test]
    fn two_wakers_lose_nothing_and_ring_once_a_sleep() {
        check(|| {
            let worker = Worker::new();
            let threads: Vec<_> = (0..2)
                .map(|task| {
                    let waker = Arc::clone(&worker);
                    thread::spawn(move || {
                        // SAFETY: each writes its own, before the wake that publishes it.
                        waker.news[task].with_mut(|news| unsafe { *news = 1 });
                        waker.wake(task as u32);
                    })
                })
                .collect();
            assert_eq!(worker.run_until(2), 2);
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn a_second_wake_of_one_task_is_seen_by_a_later_poll() {
        check(|| {
            let worker = Worker::new();
            let seen = Arc::new(AtomicUsize::new(0));
            let waker = Arc::clone(&worker);
            let said = Arc::clone(&seen);
            let thread = thread::spawn(move || {
                for _ in 0..2 {
                    said.fetch_add(1, Ordering::Relaxed);
                    waker.wake(1);
                }
            });
            // The last poll comes after the last wake: it must see both.
            let mut last = 0;
            while last < 2 {
                worker.stack.take(
                    |task| &worker.links[task as usize],
                    |_| last = seen.load(Ordering::Relaxed),
                );
                if last < 2 {
                    worker.bell.say_sleeping();
                    if worker.stack.is_empty() {
                        worker.eventfd.wait();
                    }
                    worker.bell.say_awake();
                }
            }
            thread.join().unwrap();
        });
    }
}
