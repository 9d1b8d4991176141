//! The handle of a started pool: calls from any thread, stopping, joining, counting.

use core::marker::PhantomData;
use core::net::SocketAddr;

use super::worker::CallSlots;
use super::{Pool, Worker};
use crate::error::{Error, Result, StartError};
use crate::metrics::{Stats, Usage};
use crate::task::call::thread::call;
use crate::worker::{Core, Parts};

/// A running pool. Dropped, it stops the pool and waits for its threads (but for a worker's own
/// thread, which cannot: then the next start does).
pub struct Handle<P: Pool> {
    joined: bool,
    pool: PhantomData<fn() -> P>,
}

impl<P: Pool> Handle<P> {
    pub(super) fn new() -> Self {
        Self { joined: false, pool: PhantomData }
    }

    /// Runs `closure` on a worker, in its `calls` arena, and blocks for the value. Any number of
    /// threads may do so at once; while the arena is full they wait.
    ///
    /// Errors: `Stopped`, if it did not begin before the pool stopped; an error if it panicked, or
    /// was dropped by the stop; one at once if the calling thread is itself a worker of this pool,
    /// which would wait for itself.
    ///
    /// # Panics
    /// Where there is no such worker.
    pub fn on<F, R>(&self, worker: usize, closure: F) -> Result<R>
    where
        F: AsyncFnOnce(Worker<P>) -> R + Send + 'static,
        R: Send + 'static,
    {
        assert!(worker < self.workers(), "worker {worker} of {}", self.workers());
        if on_worker::<P>() {
            return Err(Error::Other(
                "a worker's thread called its own pool from outside, which would block it",
            ));
        }
        let parts = parts::<P>(worker);
        let on_worker = move |core: Core| closure(Worker::<P>::new(core));
        call::<_, _, _, CallSlots<P>>(&parts.calls, &parts.tasks, |context| {
            on_worker(Parts::core_of(context))
        })
    }

    /// How many workers run.
    pub fn workers(&self) -> usize {
        P::shared().workers.load(core::sync::atomic::Ordering::Relaxed) as usize
    }

    /// The first address the pool listens on, with the real port. Waits until a worker has bound
    /// one; `Stopped` if the pool ends before.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        P::shared().wait_port(0).ok_or(Error::Stopped)
    }

    /// What each worker has counted, without stopping it.
    pub fn stats(&self) -> impl Iterator<Item = Stats> + use<P> {
        (0..self.workers()).map(|worker| parts::<P>(worker).stats())
    }

    /// How full a worker's tables are, and were: tasks by name, buffers, sockets, files. Without
    /// stopping it. It borrows the handle, so that no other run begins while it is read:
    ///
    /// ```compile_fail,E0505
    /// # async fn echo(_: kio::net::TcpStream) -> kio::Result<()> { Ok(()) }
    /// # kio::pool! { struct Echo; listen = { "127.0.0.1:7000" => echo }, }
    /// # fn main() -> kio::Result<()> {
    /// let pool = Echo::start()?;
    /// let usage = pool.usage(0);
    /// drop(pool);
    /// println!("{}", usage.count());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// Where there is no such worker.
    pub fn usage(&self, worker: usize) -> impl Iterator<Item = Usage> + use<'_, P> {
        assert!(worker < self.workers(), "worker {worker} of {}", self.workers());
        parts::<P>(worker).usage(const { &P::CONFIG })
    }

    /// What happened on a worker, oldest first: the newest 8,191 events, read while it goes on. One
    /// that is overwritten meanwhile is left out. It borrows the handle, as `usage` does.
    ///
    /// # Panics
    /// Where there is no such worker.
    #[cfg(feature = "trace")]
    pub fn trace(&self, worker: usize) -> impl Iterator<Item = crate::trace::Event> + use<'_, P> {
        assert!(worker < self.workers(), "worker {worker} of {}", self.workers());
        let tasks = &parts::<P>(worker).tasks;
        tasks.trace.read(|task| tasks.name_of(task))
    }

    /// Writes what happened on all workers as Chrome's JSON, which Perfetto opens too.
    #[cfg(feature = "trace")]
    pub fn write_trace(&self, to: &mut dyn std::io::Write) -> std::io::Result<()> {
        let workers = (0..self.workers()).map(|worker| self.trace(worker));
        crate::trace::write(P::CONFIG.name, workers, to)
    }

    /// Stops the pool: listeners end, connections drain. Does not wait. Called a second time it
    /// ends the drain.
    pub fn stop(&self) {
        stop::<P>();
    }

    /// Whether the pool has ended, or is about to.
    pub fn is_stopping(&self) -> bool {
        P::shared().is_stopping()
    }

    /// Waits until the pool has ended, by a stop or an error of an entry; the first error is
    /// returned.
    pub fn join(mut self) -> Result<()> {
        self.wait()
    }

    pub(super) fn wait(&mut self) -> Result<()> {
        self.joined = true;
        let shared = P::shared();
        if on_worker::<P>() {
            shared.abandon();
            return Err(Error::Other("a worker cannot wait for its own pool to end"));
        }
        while let Some(thread) = shared.next_thread() {
            // A worker's panic ends the process, so its thread has no other way to end.
            let _ = thread.join();
        }
        shared.resolver.begin(0);
        let error = shared.error();
        let held = shared.rest();
        if !held.is_empty() {
            log::warn!("{}", StartError::Retired(held));
        }
        error.map_or(Ok(()), Err)
    }
}

pub(super) fn parts<P: Pool>(worker: usize) -> &'static Parts {
    P::memory(worker).parts
}

/// Whether the calling thread is a worker of the pool.
pub(super) fn on_worker<P: Pool>() -> bool {
    let workers = P::CONFIG.max_workers() as usize;
    (0..workers).any(|worker| parts::<P>(worker).tasks.owner.is_current())
}

/// Joins a run that was abandoned and has ended.
pub(super) fn reap<P: Pool>() {
    if P::shared().take_abandoned() {
        let _ = Handle::<P>::new().wait();
    }
}

/// 3 and 4 of a pool: stops it, or ends its drain.
pub(super) fn stop<P: Pool>() {
    P::shared().stop_or_drop();
    wake_all::<P>();
}

/// Wakes every worker, to look at what is shared.
pub(super) fn wake_all<P: Pool>() {
    let workers = P::shared().workers.load(core::sync::atomic::Ordering::SeqCst) as usize;
    for worker in 0..workers {
        parts::<P>(worker).tasks.ring_bell();
    }
}

impl<P: Pool> Drop for Handle<P> {
    fn drop(&mut self) {
        if !self.joined {
            P::shared().stop();
            wake_all::<P>();
            let _ = self.wait();
        }
    }
}
