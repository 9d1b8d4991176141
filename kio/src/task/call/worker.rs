//! Calls from one worker to another, or to itself.

use core::any::Any;
use core::fmt;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, RawWakerVTable, Waker};

use pin_project_lite::pin_project;

use super::arena::CallTable;
use super::room::Turn;
use super::slot::Answer;
use crate::error::Error;
use crate::task::{Tasks, WaitNode};
use crate::text::Text;

/// Why a call to a worker gave no value. Where it was not begun the closure is in it, so that
/// nothing is lost.
pub enum CallError<F> {
    /// All slots of the other worker's `calls` arena are taken, and this call was made inside of
    /// another, which must not wait: two workers could wait for each other for ever. Not begun.
    Full(F),
    /// One of the two workers takes no calls any more. Not begun.
    Stopped(F),
    /// It was begun, and panicked or was dropped by the stop.
    Lost,
}

impl<F> CallError<F> {
    /// The closure, if it was not called.
    pub fn into_inner(self) -> Option<F> {
        match self {
            Self::Full(f) | Self::Stopped(f) => Some(f),
            Self::Lost => None,
        }
    }
}

impl<F> fmt::Display for CallError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => {
                "all slots of the worker's `calls` are taken, and a call made inside of a call \
                 does not wait: raise `calls`"
            }
            Self::Stopped(_) => "the worker takes no calls any more: the pool stops",
            Self::Lost => "the call panicked, or the worker stopped before it ended",
        })
    }
}

impl<F> fmt::Debug for CallError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<F> core::error::Error for CallError<F> {}

impl<F> From<CallError<F>> for Error {
    fn from(error: CallError<F>) -> Self {
        match error {
            CallError::Full(_) => Self::Other("all slots of the worker's `calls` are taken"),
            CallError::Stopped(_) => Self::Stopped,
            CallError::Lost => Self::Other(LOST),
        }
    }
}

/// What becomes of a call that was begun and gave no value.
pub(super) const LOST: &str = "the call panicked, or the worker stopped before it ended";

pin_project! {
    /// A call to another worker; see [`Worker::on`](crate::Worker::on).
    #[must_use = "it does nothing until awaited"]
    pub struct Call<F, R> {
        from: &'static Tasks,
        to: u32,
        table: &'static CallTable,
        stage: Stage<F>,
        // Its place among those who wait for a slot; 0 before it waits.
        ticket: u64,
        #[pin]
        node: WaitNode,
        value: PhantomData<fn() -> R>,
    }

    impl<F, R> PinnedDrop for Call<F, R> {
        fn drop(this: Pin<&mut Self>) {
            this.give_up();
        }
    }
}

/// How far a call is, as its caller sees it.
///
/// ```text
///        posted               answered
///  New ----1----> Posted ---------2--------> Over
///    \ refused, full: Over        \ dropped: given up, and cancelled on the target
/// ```
enum Stage<F> {
    New(F),
    Posted(Posted),
    Over,
}

/// A call that the target has.
struct Posted {
    target: &'static Tasks,
    slot: u32,
    /// Whom the slot's waker wakes, to know another one.
    wakes: (*const (), *const RawWakerVTable),
}

/// What a waker wakes.
fn identity(waker: &Waker) -> (*const (), *const RawWakerVTable) {
    (waker.data(), waker.vtable())
}

/// The size of a call arena's slots.
pub(crate) trait SlotSize {
    const SIZE: usize;
}

/// Stops the build where a call does not fit a slot.
pub(crate) const fn check_size(need: usize, align: usize, slot: usize) {
    assert!(align <= 16, "kio: what a call moves or returns is aligned to over 16 bytes");
    if need > slot {
        let mut text = Text::new();
        text.put("kio: this call needs ");
        text.number(need as u64);
        text.put(" bytes (the largest of its closure, its future and its value), and a slot of the `calls` arena has ");
        text.number(slot as u64);
        text.put(": declare `calls = N x ");
        text.number(need.next_multiple_of(16) as u64);
        text.put(" B`, or move less into the closure");
        panic!("{}", text.as_str());
    }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// What makes a call's future of its closure. A function item or a closure without captures, so
/// that nothing but the closure has to cross.
struct Make<F, M, Fut, R>(PhantomData<(F, M, Fut, R)>);

impl<F, M, Fut, R> Make<F, M, Fut, R>
where
    F: Send + 'static,
    M: FnOnce(F, &'static dyn Any) -> Fut + Copy + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    const TABLE: CallTable = CallTable { begin: Self::begin, drop_closure: Self::drop_closure };

    const fn check(slot: usize) {
        assert!(size_of::<M>() == 0, "what makes a call's future captures nothing");
        check_size(
            larger(size_of::<F>(), larger(size_of::<Fut>(), size_of::<R>())),
            larger(align_of::<F>(), larger(align_of::<Fut>(), align_of::<R>())),
            slot,
        );
    }

    /// # Safety
    /// `index` was adopted, and `body` is its body and holds the closure, which is the calling
    /// thread's to take. An `M` was given to `Call::new`.
    unsafe fn begin(tasks: &'static Tasks, index: u32, body: *mut u8, context: &'static dyn Any) {
        // SAFETY: the caller vouches for it; the bytes hold nothing from here on.
        let closure = unsafe { body.cast::<F>().read() };
        // SAFETY: of no size, and `Copy`: it has no bytes that could be wrong, and one was made.
        let make = unsafe { core::ptr::NonNull::<M>::dangling().as_ptr().read() };
        // SAFETY: adopted and empty; `check` compared the sizes while compiling.
        unsafe { tasks.start_call(index, move || make(closure, context)) };
    }

    /// # Safety
    /// `body` holds the closure, which is the calling thread's to drop.
    unsafe fn drop_closure(body: *mut u8) {
        // SAFETY: the caller vouches for it.
        unsafe { body.cast::<F>().drop_in_place() }
    }
}

impl<F, R> Call<F, R> {
    /// A call from one worker to another of its pool, whose slots have the size `S`.
    pub(crate) fn new<M, Fut, S: SlotSize>(
        from: &'static Tasks,
        to: u32,
        closure: F,
        _make: M,
    ) -> Self
    where
        F: Send + 'static,
        M: FnOnce(F, &'static dyn Any) -> Fut + Copy + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        const { Make::<F, M, Fut, R>::check(S::SIZE) };
        Self {
            from,
            to,
            table: const { &Make::<F, M, Fut, R>::TABLE },
            stage: Stage::New(closure),
            ticket: 0,
            node: WaitNode::new(),
            value: PhantomData,
        }
    }

    /// The caller goes away, at whatever stage.
    fn give_up(self: Pin<&mut Self>) {
        let this = self.project();
        match core::mem::replace(this.stage, Stage::Over) {
            Stage::New(_) if this.from.owner.is_current() && !this.node.is_waiting() => {
                // It may have been offered a slot.
                this.from.call_offer_over(*this.to, this.ticket);
            }
            Stage::New(_) | Stage::Over => {}
            Stage::Posted(Posted { target, slot, .. }) => {
                match target.calls.header(slot).slot.give_up() {
                    // Its task sees it at its next poll, and drops the future.
                    None => target.wake_call(slot),
                    // SAFETY: the answer says what is in the body, which is the caller's.
                    Some(answer) => drop(unsafe { take::<F, R>(target, slot, answer) }),
                }
            }
        }
    }
}

impl<F, R> Future for Call<F, R> {
    type Output = Result<R, CallError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Stage::Posted(posted) = this.stage {
            let Some(answer) = posted.answer(cx) else {
                return Poll::Pending;
            };
            let (target, slot) = (posted.target, posted.slot);
            *this.stage = Stage::Over;
            // SAFETY: the answer says what is in the body, which is the caller's; asked once, as
            // the stage has changed.
            return Poll::Ready(unsafe { take(target, slot, answer) });
        }
        if matches!(this.stage, Stage::Over) {
            return Poll::Ready(Err(CallError::Lost)); // polled after it was ready
        }
        let from = *this.from;
        let stopped = !from.owner.is_current() || from.closed.get();
        // A waker's clone may be anybody's code: run before a slot is held.
        let waker = cx.waker().clone();
        let turn = match stopped {
            true => Turn::Stopped,
            false => from.call_turn(*this.to, this.node.into_ref(), this.ticket, cx),
        };
        if let Turn::Wait = turn {
            return Poll::Pending;
        }
        let Stage::New(closure) = core::mem::replace(this.stage, Stage::Over) else {
            return Poll::Ready(Err(CallError::Lost));
        };
        match turn {
            Turn::Full => Poll::Ready(Err(CallError::Full(closure))),
            Turn::Slot(target, slot) => {
                let wakes = identity(&waker);
                // SAFETY: just claimed, in an arena whose slots the closure fits.
                if let Err(closure) = unsafe { post(target, slot, this.table, closure, waker) } {
                    return Poll::Ready(Err(CallError::Stopped(closure)));
                }
                from.owe(*this.to);
                *this.stage = Stage::Posted(Posted { target, slot, wakes });
                Poll::Pending
            }
            Turn::Stopped | Turn::Wait => Poll::Ready(Err(CallError::Stopped(closure))),
        }
    }
}

impl Posted {
    /// The answer; while there is none, whoever polls with `cx` is woken.
    fn answer(&mut self, cx: &Context<'_>) -> Option<Answer> {
        let slot = &self.target.calls.header(self.slot).slot;
        if let Some(answer) = slot.answer() {
            return Some(answer);
        }
        if self.wakes != identity(cx.waker()) {
            let waker = cx.waker().clone();
            self.wakes = identity(&waker);
            // SAFETY: this is the caller's thread, which has posted the call and not left.
            drop(unsafe { slot.change_waker(waker) });
            return slot.answer();
        }
        None
    }
}

/// 2: puts a closure into a slot and posts it. It comes back where the target takes no more.
///
/// # Safety
/// The calling thread has just claimed the slot, which fits the closure that `table` is for.
unsafe fn post<F>(
    target: &'static Tasks,
    nth: u32,
    table: &'static CallTable,
    closure: F,
    waker: Waker,
) -> Result<(), F> {
    let call = target.calls.header(nth);
    let body = target.call_body(nth).cast::<F>();
    // SAFETY: the slot is ours alone until it is posted, and nothing is in it.
    unsafe {
        call.slot.claimed(Some(waker));
        body.write(closure);
    }
    call.table.set(Some(table));
    if target.calls.inbox.push(nth, call.slot.link()) {
        return Ok(());
    }
    // SAFETY: not posted, so still ours alone; the closure is taken out.
    unsafe {
        let closure = body.read();
        target.free_call(nth);
        Err(closure)
    }
}

/// Takes what the answer says is in the body, and lets go of the slot.
///
/// # Safety
/// The slot has that answer, its call was of these types, and the calling thread is its caller's,
/// which has taken nothing yet.
unsafe fn take<F, R>(target: &'static Tasks, nth: u32, answer: Answer) -> Result<R, CallError<F>> {
    let body = target.call_body(nth);
    // SAFETY: with the answer the body is the caller's, and holds what the answer says.
    let taken = unsafe {
        match answer {
            Answer::Value => Ok(body.cast::<R>().read()),
            Answer::Refused => Err(CallError::Stopped(body.cast::<F>().read())),
            Answer::Lost => Err(CallError::Lost),
        }
    };
    if target.calls.header(nth).slot.caller_left() {
        // SAFETY: both sides have left, and the body is empty.
        unsafe { target.free_call(nth) };
    }
    taken
}

impl<F, R> fmt::Debug for Call<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("to", &self.to).finish_non_exhaustive()
    }
}
