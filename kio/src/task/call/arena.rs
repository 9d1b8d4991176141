//! A worker's call arena: what is posted to it begins, ends and is answered here.
//!
//! What other threads touch of it is atomic, or in a slot that [`slot`](super::slot) gives them, or
//! was set up before the start barrier and stays as it is until all have passed the last one.

use core::any::Any;
use core::cell::Cell;
use core::task::{Context, Poll, Waker};

use super::RoomQueue;
use super::slot::{Answer, CallSlot, Handed, Inbox, Link, Room, WorkerSet};
use crate::task::header::{State, VTable, drop_at, poll};
use crate::task::{Header, Table, Tasks, WaitList, catch, let_go, wake};

/// The call arena of a worker, and who of its own tasks waits for room in others'.
pub(crate) struct Calls {
    headers: Table<CallHeader>,
    /// Index of the arena's first task header.
    first: Cell<u32>,
    /// Free slots, and the workers that wait for one; after the last worker's number, the threads.
    pub(super) room: Room,
    pub(super) inbox: Inbox,
    /// Slots for the threads that call this worker.
    pub(super) for_threads: Handed,
    /// Workers with news: they have handed a slot over, or take no calls any more.
    pub(super) news: WorkerSet,
    /// Who waits here for room there.
    pub(super) queues: Table<RoomQueue>,
    /// How many of the queues have made an offer that nobody has taken yet.
    pub(super) offers: Cell<u32>,
    /// Orders those who wait.
    pub(super) tickets: Cell<u64>,
    /// All workers have started, so that calls may be posted to them; who waits for that.
    pub(super) started: Cell<bool>,
    pub(super) start_waiters: WaitList,
}

/// One call slot, apart from its body.
pub(crate) struct CallHeader {
    pub(super) slot: CallSlot<Waker>,
    /// What is in the body. The caller's until it is posted, then the target's.
    pub(super) table: Cell<Option<&'static CallTable>>,
}

/// What is done with a posted closure whose type only these functions know.
pub(super) struct CallTable {
    /// Makes the future of the closure, in its place, or drops the closure where it panics.
    pub(super) begin: unsafe fn(&'static Tasks, u32, *mut u8, &'static dyn Any),
    pub(super) drop_closure: unsafe fn(*mut u8),
}

impl CallHeader {
    pub(crate) const fn new() -> Self {
        Self { slot: CallSlot::new(), table: Cell::new(None) }
    }
}

impl Calls {
    pub(crate) const fn new() -> Self {
        Self {
            headers: Table::new(),
            first: Cell::new(0),
            room: Room::new(),
            inbox: Inbox::new(),
            for_threads: Handed::new(),
            news: WorkerSet::new(),
            queues: Table::new(),
            offers: Cell::new(0),
            tickets: Cell::new(0),
            started: Cell::new(false),
            start_waiters: WaitList::new(),
        }
    }

    pub(super) fn header(&self, nth: u32) -> &'static CallHeader {
        self.headers.at(nth as usize)
    }

    pub(super) fn link(&self, nth: u32) -> &'static Link {
        self.header(nth).slot.link()
    }
}

impl Tasks {
    /// Takes the call arena's memory over. `first` is the index of its first task header.
    pub(crate) fn set_up_calls(
        &self,
        first: u32,
        headers: &'static [CallHeader],
        queues: &'static [RoomQueue],
    ) {
        let calls = &self.calls;
        calls.headers.set(headers);
        calls.first.set(first);
        calls.queues.set(queues);
        calls.offers.set(0);
        calls.started.set(false);
        queues.iter().for_each(RoomQueue::clear);
        calls.room.set_up(headers.len() as u32, |nth| calls.link(nth));
        calls.for_threads.clear();
        calls.news.take_all(u32::MAX, |_| {});
        calls.inbox.open();
    }

    /// Whether the task with this index is a call.
    #[inline]
    pub(crate) fn is_call(&self, index: u32) -> bool {
        index >= self.calls.first.get()
    }

    /// Whether the code that runs is part of a call.
    pub(super) fn in_call(&self) -> bool {
        self.current().is_some_and(|task| self.is_call(task.index()))
    }

    // ---- from any thread ----

    /// 1: takes a free slot of this worker's call arena.
    pub(super) fn claim_call(&self) -> Option<u32> {
        self.calls.room.claim(|nth| self.calls.link(nth))
    }

    /// The body of a call slot.
    pub(super) fn call_body(&self, nth: u32) -> *mut u8 {
        self.arena(self.call_arena()).body(self.calls.first.get() + nth)
    }

    /// Frees a slot that is the calling thread's alone, and tells one who waits for it.
    ///
    /// # Safety
    /// As of [`CallSlot::clear`]; nothing is in the body.
    pub(super) unsafe fn free_call(&self, nth: u32) {
        let header = self.calls.header(nth);
        // SAFETY: the caller vouches for it.
        let unused = unsafe { header.slot.clear() };
        self.pass_slot(nth);
        let_go(unused);
    }

    /// Gives a cleared slot to one who waits for it, or to the free ones.
    pub(super) fn pass_slot(&self, nth: u32) {
        let link = |nth| self.calls.link(nth);
        if let Some((waiter, slot)) = self.calls.room.give_back(nth, self.waiters(), link) {
            self.hand(waiter, slot);
        }
    }

    /// How many can wait: the workers, and the threads that call this one.
    pub(super) fn waiters(&self) -> u32 {
        self.workers() + 1
    }

    fn hand(&self, waiter: u32, slot: u32) {
        if waiter == self.workers() {
            self.calls.for_threads.push(slot, self.calls.link(slot));
        } else if let Some(peer) = self.peer(waiter) {
            peer.calls.queues.at(self.worker() as usize).hand(slot, self.calls.link(slot));
        }
        self.tell_news(waiter);
    }

    /// Lets a waiter know that there is news here.
    fn tell_news(&self, waiter: u32) {
        let own = waiter == self.workers();
        if let Some(told) = if own { self.peer(self.worker()) } else { self.peer(waiter) } {
            told.calls.news.insert(if own { waiter } else { self.worker() });
            told.ring_bell();
        }
    }

    /// Wakes the task of a call in this arena, so that it sees that nobody waits for it. From any
    /// thread, and the slot may be another call's by now: only the atomics of its header are touched.
    pub(super) fn wake_call(&'static self, nth: u32) {
        self.wake(self.header(self.calls.first.get() + nth));
    }

    // ---- the target's ----

    /// Whether calls are posted, or others have news, at a glance.
    #[inline]
    pub(crate) fn has_calls(&self) -> bool {
        !self.calls.inbox.seems_empty() || !self.calls.news.seems_empty(self.waiters())
    }

    /// The same, for certain: the look between saying "sleeping" and sleeping.
    pub(crate) fn has_calls_for_certain(&self) -> bool {
        !self.calls.inbox.is_empty() || !self.calls.news.is_empty(self.waiters())
    }

    /// Begins what was posted. `context` is what closures are called with.
    #[inline]
    pub(crate) fn begin_calls(&'static self, context: &'static dyn Any) {
        if !self.calls.inbox.seems_empty() {
            let link = |nth| self.calls.link(nth);
            self.calls.inbox.take(link, |nth| self.begin_call(nth, context));
        }
    }

    fn begin_call(&'static self, nth: u32, context: &'static dyn Any) {
        self.counters.calls.add(1);
        let call = self.calls.header(nth);
        let table = call.table.get().expect("a posted call says what it is");
        let index = self.adopt_call(nth);
        let (header, body) = self.body(index);
        header.crossing.set(true);
        if call.slot.is_given_up() {
            self.drop_closure(nth, table);
            header.state.set(State::Failed);
            return self.finish_call(index);
        }
        // SAFETY: a posted slot's body holds the closure that the table is for, and is the target's.
        unsafe { (table.begin)(self, index, body, context) };
    }

    /// The task of a plain thread's call is over.
    pub(in crate::task) fn free_thread_call(&self, index: u32) {
        // SAFETY: such a slot is claimed by the target, posted to nobody, and its task is over.
        unsafe { self.free_call(index - self.calls.first.get()) };
    }

    /// The slot is a task of this worker from now on. Returns the task's index.
    pub(super) fn adopt_call(&self, nth: u32) -> u32 {
        let index = self.calls.first.get() + nth;
        self.adopt(index, self.call_arena());
        index
    }

    /// 2 of a task: builds the future of a call where its closure was.
    ///
    /// # Safety
    /// `index` was adopted and nothing is in its body; a slot fits `F` and its output, which the
    /// caller of the call expects.
    pub(super) unsafe fn start_call<F: Future + 'static>(
        &self,
        index: u32,
        make: impl FnOnce() -> F,
    ) {
        let (header, body) = self.body(index);
        // SAFETY: the body's bytes are ours and hold nothing; the caller vouches for the size.
        match catch(|| unsafe { body.cast::<F>().write(make()) }) {
            Ok(()) => {
                header.vtable.set(Some(const { &call_vtable::<F>() }));
                header.joined.set(false);
                header.abort.set(false);
                header.state.set(State::Live);
                self.trace.task(crate::trace::Kind::Spawn, index);
                self.ready(header);
            }
            Err(panic) => {
                self.panicked(header, &panic);
                header.state.set(State::Failed);
                self.finish_call(index);
            }
        }
    }

    /// The task of a call has ended: the caller is answered, or what is left is dropped.
    pub(crate) fn finish_call(&self, index: u32) {
        let (header, body) = self.body(index);
        let (nth, vtable) = (index - self.calls.first.get(), header.vtable.get());
        let slot = &self.calls.header(nth).slot;
        let value = header.state.get() == State::Done;
        let answer = if value { Answer::Value } else { Answer::Lost };
        // SAFETY: this is the target's thread, the task has just ended, and `Done` says that the
        // body holds the output.
        match unsafe { slot.finish(answer) } {
            Ok(waker) => {
                self.retire(index);
                self.leave_call(nth, waker);
            }
            Err(()) => {
                if value && let Some(vtable) = vtable {
                    header.state.set(State::Ending);
                    // SAFETY: as above; the caller is gone, so the output is ours to drop.
                    if let Err(panic) = catch(|| unsafe { (vtable.drop_output)(body) }) {
                        self.panicked(header, &panic);
                    }
                }
                self.retire(index);
                // SAFETY: nobody waits, we have answered, and the body is empty.
                unsafe { self.free_call(nth) };
            }
        }
    }

    /// The target lets go of an answered call and wakes its caller.
    fn leave_call(&self, nth: u32, waker: Option<Waker>) {
        if self.calls.header(nth).slot.target_left() {
            // SAFETY: both sides have left, and the caller emptied the body.
            unsafe { self.free_call(nth) };
        }
        wake(waker);
    }

    /// Drops a closure that is not called.
    fn drop_closure(&self, nth: u32, table: &CallTable) {
        let body = self.call_body(nth);
        // SAFETY: a posted slot's body holds the closure that the table is for, and is the target's.
        if catch(|| unsafe { (table.drop_closure)(body) }).is_err() {
            self.counters.panics.add(1);
        }
    }

    /// Refuses what is posted and all that will be, and tells who waits for room.
    pub(crate) fn close_calls(&self) {
        let link = |nth| self.calls.link(nth);
        self.calls.inbox.close(link, |nth| self.refuse_call(nth));
        self.calls.room.dismiss(self.waiters(), |waiter| self.tell_news(waiter));
    }

    fn refuse_call(&self, nth: u32) {
        let call = self.calls.header(nth);
        // SAFETY: this is the target's thread, which has just taken the slot and not begun it, so
        // the body holds the closure.
        match unsafe { call.slot.finish(Answer::Refused) } {
            Ok(waker) => self.leave_call(nth, waker),
            Err(()) => {
                self.drop_closure(nth, call.table.get().expect("a posted call says what it is"));
                // SAFETY: nobody waits, we have answered, and the body is empty.
                unsafe { self.free_call(nth) };
            }
        }
    }

    /// Call slots that somebody has not let go of. To be asked when nobody calls any more.
    pub(crate) fn calls_held(&self) -> u32 {
        let headers = self.calls.headers.get();
        headers.iter().filter(|header| header.slot.is_taken()).count() as u32
    }
}

const fn call_vtable<F: Future + 'static>() -> VTable {
    VTable {
        poll: poll_call::<F>,
        drop_future: drop_at::<F>,
        drop_output: drop_at::<F::Output>,
        failure: |_, _| {},
    }
}

/// Polls the future of a call; where nobody waits for it, drops it instead.
///
/// # Safety
/// `body` holds a live `F`, pinned there, with room for its output.
unsafe fn poll_call<F: Future>(body: *mut u8, header: &Header, cx: &mut Context<'_>) -> Poll<()> {
    // SAFETY: a polled header's tasks are those of its own, running worker.
    let tasks = unsafe { &*header.tasks() };
    let call = tasks.calls.header(header.index() - tasks.calls.first.get());
    if !call.slot.is_given_up() {
        // SAFETY: the caller vouches for it.
        return unsafe { poll::<F>(body, header, cx) };
    }
    header.state.set(State::Ending);
    // SAFETY: the caller vouches for the future, and `Ending` keeps others from it.
    unsafe { drop_at::<F>(body) };
    header.state.set(State::Failed);
    Poll::Ready(())
}
