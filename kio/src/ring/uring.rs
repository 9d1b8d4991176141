//! The kernel's ring through the `io-uring` crate: push, enter, pop.
//!
//! The crate remembers a registered ring descriptor only in the `Submitter` that registered it, so
//! the three parts of `split` are kept for the life of the thread, beside the ring they borrow.

use io_uring::{IoUring, Submitter, cqueue, squeue, types};

use super::{Cqe, Sqe};
use crate::error::{Error, Result};

/// How long an enter may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: take what is there.
    No,
    /// Until a completion arrives, or for so many nanoseconds.
    For(u64),
    /// Until a completion arrives.
    Forever,
}

/// One worker's ring. Not `Send`: the kernel lets only the thread that made it enter.
pub(crate) struct Ring<'a> {
    submitter: Submitter<'a>,
    sq: squeue::SubmissionQueue<'a>,
    cq: cqueue::CompletionQueue<'a>,
    /// Whether the store is registered as buffer 0.
    registered: bool,
    _thread_bound: core::marker::PhantomData<*const ()>,
}

impl<'a> Ring<'a> {
    pub(super) fn new(uring: &'a mut IoUring) -> Self {
        let (submitter, sq, cq) = uring.split();
        Self { submitter, sq, cq, registered: false, _thread_bound: core::marker::PhantomData }
    }

    pub(super) fn set_registered(&mut self) {
        self.registered = true;
    }

    /// Whether reads and writes may name the store as a registered buffer.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered
    }

    pub(crate) fn submitter(&mut self) -> &mut Submitter<'a> {
        &mut self.submitter
    }

    /// Whether one more submission fits.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        !self.sq.is_full()
    }

    /// Adds a submission; there must be room.
    #[inline]
    pub(crate) fn push(&mut self, sqe: &Sqe) {
        // SAFETY: `Sqe` is `#[repr(C)]` and 64 bytes, as the crate's `Entry` is, and laid out as
        // `io_uring_sqe`; who made it vouched for what it points to.
        let pushed = unsafe { self.sq.push(&*core::ptr::from_ref(sqe).cast::<squeue::Entry>()) };
        debug_assert!(pushed.is_ok(), "pushed without asking has_room");
    }

    /// Whether the kernel has work of this ring's to run on the next enter. With deferred task
    /// work it runs 20 items an enter (since 6.13), so this stays set while there are more.
    #[inline]
    pub(crate) fn has_task_work(&self) -> bool {
        self.sq.taskrun()
    }

    /// Whether a completion waits, without a system call.
    #[inline]
    pub(crate) fn has_completions(&mut self) -> bool {
        self.cq.sync();
        !self.cq.is_empty()
    }

    /// How often the completion queue overflowed.
    pub(crate) fn overflows(&self) -> u32 {
        self.cq.overflow()
    }

    /// Submits what was pushed and waits as told. `Ok(false)` where nothing had to be done.
    ///
    /// ETIME, EINTR, EAGAIN and EBUSY are control flow: the caller looks at the completion queue
    /// and comes back. EBADR says that the kernel lost a completion for want of memory, and then
    /// no slot's state is known any more: the process aborts.
    pub(crate) fn enter(&mut self, wait: Wait) -> Result<bool> {
        self.sq.sync();
        let entered = match wait {
            Wait::No => {
                if self.sq.is_empty() && !self.sq.taskrun() && !self.sq.cq_overflow() {
                    return Ok(false);
                }
                // Runs 20 items of task work (6.13); the next turn takes up what is left. A large
                // count with a zero timeout would run all, but it sleeps on a timer where there are
                // fewer: 40 us, measured on 6.18.
                self.submitter.submit()
            }
            Wait::For(nanos) => {
                let timeout = types::Timespec::new()
                    .sec(nanos / 1_000_000_000)
                    .nsec((nanos % 1_000_000_000) as u32);
                let args = types::SubmitArgs::new().timespec(&timeout);
                self.submitter.submit_with_args(1, &args)
            }
            Wait::Forever => self.submitter.submit_and_wait(1),
        };
        self.sq.sync();
        match entered {
            Ok(_) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(true),
                Some(libc::EBADR) => {
                    log::error!("the kernel dropped a completion (EBADR): aborting");
                    std::process::abort()
                }
                errno => Err(Error::os("io_uring_enter", errno.unwrap_or(0))),
            },
        }
    }

    /// The next completion.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Cqe> {
        let entry = match self.cq.next() {
            Some(entry) => entry,
            None => {
                // Publishes the head and looks for what arrived meanwhile.
                self.cq.sync();
                self.cq.next()?
            }
        };
        Some(Cqe { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() })
    }
}
