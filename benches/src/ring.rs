//! One io_uring as the hand-written server and the load generator use it: set up, fill, turn, drain.
//!
//! The set-up is the one a thread-per-core server wants: one issuer, deferred task work, completions
//! only at `enter`. What a kernel refuses with EINVAL is peeled off in a fixed order.
//! The turn is one system call: submit everything, wait for one completion.

use std::io;
use std::time::{Duration, Instant};

use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, squeue, types};

/// Entries of the submission queue; a turn that needs more submits in between.
const SQ: u32 = 512;

/// Makes a ring with `cq` completion entries, without the flags this kernel does not know.
pub fn build(cq: u32) -> io::Result<IoUring> {
    // The last rung is COOP_TASKRUN alone: Linux 5.19 to 6.0.
    for (sqarray, defer) in [(false, true), (true, true), (true, false)] {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(cq).setup_submit_all().setup_single_issuer().setup_taskrun_flag();
        if !sqarray {
            builder.setup_no_sqarray();
        }
        if defer {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        match builder.build(SQ) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => continue,
            other => return other,
        }
    }
    Err(io::Error::other("this kernel has no io_uring with SINGLE_ISSUER (needs Linux 6.0)"))
}

/// The three parts of a ring, split once and kept: the submitter knows the registered ring fd.
pub struct Ring<'a> {
    submitter: Submitter<'a>,
    sq: SubmissionQueue<'a>,
    cq: CompletionQueue<'a>,
}

impl Drop for Ring<'_> {
    /// A thread has room for 16 registered rings, and one that is registered lives on.
    fn drop(&mut self) {
        let _ = self.submitter.unregister_ring_fd();
    }
}

impl<'a> Ring<'a> {
    /// Splits `uring` and registers its descriptor, which saves a file lookup at each `enter`.
    pub fn over(uring: &'a mut IoUring) -> io::Result<Self> {
        let (mut submitter, sq, cq) = uring.split();
        submitter.register_ring_fd()?;
        Ok(Self { submitter, sq, cq })
    }

    /// For registering files and buffers.
    pub fn submitter(&self) -> &Submitter<'a> {
        &self.submitter
    }

    /// Queues one entry; submits what is queued first when the queue is full.
    ///
    /// # Safety
    ///
    /// What the entry points to stays valid until its last completion.
    #[inline]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise is the one `push` asks for.
        while unsafe { self.sq.push(entry) }.is_err() {
            self.enter(0, None)?;
        }
        Ok(())
    }

    /// The next completion that `turn` or `wait` has made visible.
    #[inline]
    pub fn pop(&mut self) -> Option<cqueue::Entry> {
        self.cq.next()
    }

    /// Submits everything and waits for a completion; before it sleeps it watches the ring for `spin`.
    ///
    /// Deferred task work is run 20 pieces an `enter` (since Linux 6.13). What is left over shows as
    /// SQ_TASKRUN, and the next turn's `enter` takes it up: it does not sleep while work is pending.
    #[inline]
    pub fn turn(&mut self, spin: Duration) -> io::Result<()> {
        if spin.is_zero() {
            return self.enter(1, None);
        }
        self.sq.sync();
        if !self.sq.is_empty() {
            self.enter(0, None)?;
        }
        if self.watch(spin) && !self.sq.taskrun() {
            return Ok(());
        }
        self.enter(1, None)
    }

    /// Submits everything and waits for a completion, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> io::Result<()> {
        self.enter(1, Some(types::Timespec::from(limit)))
    }

    /// Watches for completions and pending task work without a system call; false when `limit` passed.
    fn watch(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            for _ in 0..16 {
                self.cq.sync();
                if !self.cq.is_empty() || self.sq.taskrun() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if Instant::now() >= until {
                return false;
            }
        }
    }

    #[inline]
    fn enter(&mut self, want: usize, limit: Option<types::Timespec>) -> io::Result<()> {
        self.sq.sync();
        self.cq.sync();
        let done = match limit {
            None => self.submitter.submit_and_wait(want),
            Some(ts) => {
                let args = types::SubmitArgs::new().timespec(&ts);
                self.submitter.submit_with_args(want, &args)
            }
        };
        self.sq.sync();
        self.cq.sync();
        match done {
            Ok(_) => Ok(()),
            // Control flow, not errors: timed out, interrupted, or told to reap completions first.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}
