//! The header of a task slot: what kio knows of a future, apart from its bytes.
//!
//! Headers and bodies are separate statics: the headers zeroed, the bodies uninitialised, since a
//! mixed initialiser costs the compiler gigabytes.

use core::cell::Cell;
use core::pin::Pin;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use core::task::{Context, Poll};

use super::remote::RemoteLink;
use super::{Outcome, Tasks, Waiter};

/// A slot's state. Who owns the body's bytes is told in brackets.
///
/// ```text
///          claim            start             poll: Ready            take / detach
///  Free ----1----> Claimed ----2----> Live ----3----> Done [output] ----5----> Free
///    ^              [nobody]         [future]  \                                ^
///    +---- 6: release ---+                      4: panic, abort --> Failed -----+
/// ```
///
/// A future or an output that is being dropped passes through `Ending`. 1 [`Tasks::claim`], 2 [`Tasks::start`], 3 and 4 `Tasks::poll_one`, 5 `Tasks::free` after the
/// output was taken by the join handle or dropped, 6 `Tasks::free` by a reservation dropped or a
/// spawn closure that panicked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    Claimed,
    Live,
    /// The future, or the output, is being dropped: whoever looks in meanwhile keeps its hands off.
    Ending,
    Done,
    /// Nothing is left in the body; `aborted` tells why.
    Failed,
}

/// One task slot's header; all zero while free.
pub(crate) struct Header {
    pub(super) state: Cell<State>,
    /// On the ready queue. Kept apart from `next_free`: a stale waker may queue a free slot.
    pub(super) queued: Cell<bool>,
    /// A join handle exists, so the output is kept for it.
    pub(super) joined: Cell<bool>,
    /// A call of another worker's task, who is answered when it ends (see [`super::call`]).
    pub(super) crossing: Cell<bool>,
    /// To be dropped at its next turn.
    pub(super) abort: Cell<bool>,
    pub(super) arena: Cell<u16>,
    /// The next ready task.
    pub(super) next_ready: Cell<Option<&'static Self>>,
    /// Index + 1 of the next free slot of the arena.
    pub(super) next_free: Cell<u32>,
    pub(super) vtable: Cell<Option<&'static VTable>>,
    /// Where its future or output is; set at each claim.
    pub(super) body: Cell<*mut u8>,
    /// Who awaits the join handle.
    pub(super) join: Waiter,
    pub(super) remote: RemoteLink,
    /// Read by foreign wakers, of runs past too; set at each start, always to the same.
    tasks: AtomicPtr<Tasks>,
    index: AtomicU32,
}

impl Header {
    pub(crate) const fn new() -> Self {
        Self {
            state: Cell::new(State::Free),
            queued: Cell::new(false),
            joined: Cell::new(false),
            crossing: Cell::new(false),
            abort: Cell::new(false),
            arena: Cell::new(0),
            next_ready: Cell::new(None),
            next_free: Cell::new(0),
            vtable: Cell::new(None),
            body: Cell::new(core::ptr::null_mut()),
            join: Waiter::new(),
            remote: RemoteLink::new(),
            tasks: AtomicPtr::new(core::ptr::null_mut()),
            index: AtomicU32::new(0),
        }
    }

    pub(super) fn tasks(&self) -> *const Tasks {
        self.tasks.load(Ordering::Acquire)
    }

    /// Its place in the table; from any thread.
    pub(super) fn index(&self) -> u32 {
        self.index.load(Ordering::Relaxed)
    }

    pub(super) fn set_tasks(&self, tasks: &'static Tasks, index: u32) {
        self.index.store(index, Ordering::Relaxed);
        self.tasks.store(core::ptr::from_ref(tasks).cast_mut(), Ordering::Release);
    }
}

/// Is told of an error, and whether it is routine.
type Report<'a> = dyn FnMut(&dyn core::fmt::Debug, bool) + 'a;

/// What is done with a body whose type only these functions know.
pub(super) struct VTable {
    /// Polls the future. Where it ends, drops it and leaves the output in its place.
    pub(super) poll: unsafe fn(*mut u8, &Header, &mut Context<'_>) -> Poll<()>,
    pub(super) drop_future: unsafe fn(*mut u8),
    pub(super) drop_output: unsafe fn(*mut u8),
    /// Lends the output to `tell`, as a failure where it is one.
    pub(super) failure: unsafe fn(*mut u8, &mut Report<'_>),
}

impl VTable {
    pub(super) const fn of<F: Future<Output: Outcome> + 'static>() -> &'static Self {
        const {
            &Self {
                poll: poll::<F>,
                drop_future: drop_at::<F>,
                drop_output: drop_at::<F::Output>,
                failure: failure::<F::Output>,
            }
        }
    }
}

/// # Safety
/// `body` holds a live `F`, pinned there, with room for its output.
pub(super) unsafe fn poll<F: Future>(
    body: *mut u8,
    header: &Header,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let future = body.cast::<F>();
    // SAFETY: the caller vouches for the future, which never moves out of its slot.
    let polled = unsafe { Pin::new_unchecked(&mut *future) }.poll(cx);
    let Poll::Ready(output) = polled else {
        return Poll::Pending;
    };
    // From here nobody else drops it: not a panic's clean-up, not its own join handle inside it.
    header.state.set(State::Ending);
    // SAFETY: the future ended and is dropped once, in place; then the bytes are free for the
    // output, for which the slot was sized and aligned.
    unsafe {
        future.drop_in_place();
        body.cast::<F::Output>().write(output);
    }
    header.state.set(State::Done);
    Poll::Ready(())
}

/// # Safety
/// `body` holds a live `T`.
pub(super) unsafe fn drop_at<T>(body: *mut u8) {
    // SAFETY: the caller vouches for it.
    unsafe { body.cast::<T>().drop_in_place() }
}

/// # Safety
/// `body` holds a live `T`.
unsafe fn failure<T: Outcome>(body: *mut u8, tell: &mut Report<'_>) {
    // SAFETY: the caller vouches for it.
    if let Some((error, routine)) = unsafe { &*body.cast::<T>() }.failure() {
        tell(error, routine);
    }
}
