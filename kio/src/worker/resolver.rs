//! Resolving host names, which the system offers only as a call that blocks: the threads that
//! `blocking` declares make it, and wake the task that asked as any foreign thread does.
//!
//! A job lives in a static slot until both sides have let go, so a future that is dropped or
//! forgotten meanwhile leaves nothing dangling.

use core::net::SocketAddr;
use core::task::{Context, Poll, Waker};
use std::net::ToSocketAddrs;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::task::catch;

/// Names that can be resolved at once.
const JOBS: usize = 32;
/// Addresses kept of one name.
pub(crate) const ADDRS: usize = 8;
/// Bytes of a host name, as DNS bounds it, and its port.
const NAME: usize = 262;

/// The addresses of a name.
pub(crate) type Addrs = heapless::Vec<SocketAddr, ADDRS>;

/// A job's life.
///
/// ```text
///         ask            a thread takes it       answered           taken by the future
///  Free ---1---> Asked ---------2-------> Running ----3----> Done ---------4----------> Free
///                  \ dropped: Free            \ dropped: Abandoned, freed when answered
/// ```
enum Job {
    Free,
    Asked(heapless::String<NAME>, Option<Waker>),
    Running(Option<Waker>),
    Abandoned,
    Done(Result<Addrs>),
}

/// The jobs of a pool, and the threads that wait for one.
pub(crate) struct Resolver {
    state: Mutex<State>,
    asked: Condvar,
}

struct State {
    jobs: [Job; JOBS],
    /// The run that threads work for; one of an earlier run ends when it sees this changed.
    run: u32,
    threads: u32,
}

impl Resolver {
    pub(crate) const fn new() -> Self {
        Self {
            state: Mutex::new(State { jobs: [const { Job::Free }; JOBS], run: 0, threads: 0 }),
            asked: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new run with so many threads; returns its number, which each thread is given. The threads
    /// of the run before end, at once or when their call returns.
    /// So do its jobs: no future of it is polled again, and one that was forgotten holds none.
    pub(crate) fn begin(&self, threads: u32) -> u32 {
        let mut state = self.lock();
        state.run = state.run.wrapping_add(1);
        state.threads = threads;
        let run = state.run;
        self.asked.notify_all();
        drop(state);
        (0..JOBS).for_each(|job| self.forget(job));
        run
    }

    /// 1: asks for a name's addresses.
    pub(crate) fn ask(&self, name: &str) -> Result<usize> {
        let name = heapless::String::try_from(name)
            .map_err(|_| Error::Other("a host name has 253 bytes at most"))?;
        let mut state = self.lock();
        if state.threads == 0 {
            return Err(Error::Other(
                "resolving a name needs a thread that may block: declare `blocking = 1`",
            ));
        }
        let free = state.jobs.iter().position(|job| matches!(job, Job::Free));
        let job = free.ok_or(Error::Other("32 names are being resolved: try again"))?;
        state.jobs[job] = Job::Asked(name, None);
        self.asked.notify_one();
        Ok(job)
    }

    /// 4: takes the answer.
    pub(crate) fn poll(&self, job: usize, cx: &Context<'_>) -> Poll<Result<Addrs>> {
        // Cloned and dropped outside of the lock: a waker may be anybody's code.
        let mut waker = Some(cx.waker().clone());
        let mut state = self.lock();
        let polled = match &mut state.jobs[job] {
            Job::Asked(_, kept) | Job::Running(kept) => {
                core::mem::swap(kept, &mut waker);
                Poll::Pending
            }
            done => match core::mem::replace(done, Job::Free) {
                Job::Done(answer) => Poll::Ready(answer),
                _ => Poll::Ready(Err(Error::Stopped)),
            },
        };
        drop(state);
        drop(waker);
        polled
    }

    /// Gives a job up.
    pub(crate) fn forget(&self, job: usize) {
        let mut state = self.lock();
        let next = match state.jobs[job] {
            Job::Running(_) | Job::Abandoned => Job::Abandoned,
            _ => Job::Free,
        };
        let before = core::mem::replace(&mut state.jobs[job], next);
        drop(state);
        let _ = catch(|| drop(before)); // a waker may be anybody's code
    }

    /// A thread's work: answers until the run is over.
    pub(crate) fn work(&self, run: u32) {
        let mut state = self.lock();
        while state.run == run {
            let asked = state.jobs.iter().position(|job| matches!(job, Job::Asked(..)));
            let Some(at) = asked else {
                state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Job::Asked(name, waker) = core::mem::replace(&mut state.jobs[at], Job::Abandoned)
            else {
                continue;
            };
            state.jobs[at] = Job::Running(waker);
            drop(state);
            let answer = resolve(&name);
            state = self.lock();
            let next = match state.jobs[at] {
                Job::Running(_) => Job::Done(answer),
                _ => Job::Free,
            };
            let before = core::mem::replace(&mut state.jobs[at], next);
            drop(state);
            if let Job::Running(Some(waker)) = before {
                let _ = catch(|| waker.wake()); // its fault ends no thread that others need
            }
            state = self.lock();
        }
    }
}

fn resolve(name: &str) -> Result<Addrs> {
    let addrs: Addrs = name.to_socket_addrs()?.take(ADDRS).collect();
    if addrs.is_empty() { Err(Error::Other("the name has no address")) } else { Ok(addrs) }
}
