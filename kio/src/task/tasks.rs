//! A worker's tasks: claiming, starting, polling and freeing slots, and the ready queue.

use core::any::TypeId;
use core::cell::Cell;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use core::task::{Context, Waker};

use super::call::Calls;
use super::header::{State, VTable};
use super::owner::Owner;
use super::peers::Owed;
use super::remote::{Bell, RemoteStack};
use super::{
    Arena, CallHeader, Failure, FailureKind, Header, Outcome, Part, Peers, Published, RoomQueue,
    Table, TaskDecl, waker,
};
use crate::error::Held;
use crate::metrics::Counters;
use crate::trace::{self, Trace};

/// The tasks of one worker. A static; all zero while idle.
pub(crate) struct Tasks {
    pub(crate) owner: Owner,
    headers: Table<Header>,
    arenas: Table<Arena>,
    /// The ready queue: its ends.
    head: Cell<Option<&'static Header>>,
    tail: Cell<Option<&'static Header>>,
    /// The task being polled.
    current: Cell<Option<&'static Header>>,
    /// How many polls computed for long since the worker last looked at the ring for their sake.
    #[cfg(feature = "tls")]
    pub(crate) heavy: Cell<u8>,
    /// Whether spawning is refused, since the worker drops its tasks.
    pub(crate) closed: Cell<bool>,
    /// Who is told of failures.
    pub(crate) hook: Cell<Option<&'static dyn Tell>>,
    remote: RemoteStack,
    pub(crate) bell: Bell,
    /// The descriptor + 1 that is written to wake a parked worker. Never closed: a late waker may still write.
    pub(crate) eventfd: AtomicI32,
    /// The ring's descriptor + 1, to which peers send messages; 0 while it takes none.
    pub(crate) ring: AtomicI32,
    /// Which worker this is.
    worker: AtomicU32,
    /// The number of its thread; 0 while it has none.
    pub(crate) thread: AtomicI32,
    pub(super) peers: Published<Peers>,
    pub(super) owed: Owed,
    pub(crate) calls: Calls,
    pub(crate) counters: Counters,
    pub(crate) trace: Trace,
}

/// Who is told of failures.
pub(crate) trait Tell {
    fn tell(&'static self, failure: &Failure<'_>);
}

impl Tasks {
    pub(crate) const fn new() -> Self {
        Self {
            owner: Owner::new(),
            headers: Table::new(),
            arenas: Table::new(),
            head: Cell::new(None),
            tail: Cell::new(None),
            current: Cell::new(None),
            #[cfg(feature = "tls")]
            heavy: Cell::new(0),
            closed: Cell::new(false),
            hook: Cell::new(None),
            remote: RemoteStack::new(),
            bell: Bell::new(),
            eventfd: AtomicI32::new(0),
            ring: AtomicI32::new(0),
            worker: AtomicU32::new(0),
            thread: AtomicI32::new(0),
            peers: Published::new(),
            owed: Owed::new(),
            calls: Calls::new(),
            counters: Counters::new(),
            trace: Trace::new(),
        }
    }

    /// Makes this the tasks of a pool's worker, known to its peers once the rest is set up.
    pub(crate) fn join(&'static self, worker: u32, peers: &'static Peers) {
        self.worker.store(worker, Ordering::Relaxed);
        self.peers.set(peers);
        peers.keep(worker, self);
    }

    /// Which worker this is.
    pub(crate) fn worker(&self) -> u32 {
        self.worker.load(Ordering::Relaxed)
    }

    /// How many workers run.
    pub(super) fn workers(&self) -> u32 {
        self.peers().map_or(0, Peers::count)
    }

    /// Takes the memory over: `bodies` holds the arenas one after another, as
    /// `Config::body_bytes` sums them.
    pub(crate) fn set_up(
        &'static self,
        headers: &'static [Header],
        arenas: &'static [Arena],
        decls: impl Iterator<Item = &'static TaskDecl>,
        bodies: Part,
        calls: &'static [CallHeader],
        queues: &'static [RoomQueue],
    ) {
        self.headers.set(headers);
        self.arenas.set(arenas);
        self.closed.set(false);
        for (i, header) in headers.iter().enumerate() {
            debug_assert!(header.state.get() == State::Free, "slot {i} is free at start");
            header.set_tasks(self, i as u32);
        }
        let (mut first, mut offset) = (0, 0);
        for (arena, decl) in arenas.iter().zip(decls) {
            let (at, stride) = super::arena::place(offset, decl);
            arena.decl.set(Some(decl));
            arena.base.set(bodies.start().wrapping_add(at));
            arena.stride.set(stride);
            arena.first.set(first);
            arena.free.set(0);
            arena.fresh.set(0);
            arena.live.begin();
            first += decl.count;
            offset = at + stride * decl.count as usize;
        }
        assert!(offset <= bodies.size(), "the bodies hold all arenas");
        self.set_up_calls(first - calls.len() as u32, calls, queues);
    }

    pub(super) fn header(&self, index: u32) -> &'static Header {
        self.headers.at(index as usize)
    }

    fn arena_of(&self, header: &Header) -> &'static Arena {
        self.arenas.at(usize::from(header.arena.get()))
    }

    pub(super) fn body(&self, index: u32) -> (&'static Header, *mut u8) {
        let header = self.header(index);
        (header, header.body.get())
    }

    // ---- ready queue ----

    /// Queues a task of this worker to be polled, once.
    #[inline]
    pub(crate) fn ready(&self, task: &'static Header) {
        if task.queued.replace(true) {
            return;
        }
        self.trace.task(trace::Kind::Wake, task.index());
        task.next_ready.set(None);
        match self.tail.replace(Some(task)) {
            None => self.head.set(Some(task)),
            Some(tail) => tail.next_ready.set(Some(task)),
        }
    }

    /// Whether any is queued.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        self.head.get().is_some()
    }

    #[inline]
    fn pop_ready(&self) -> Option<&'static Header> {
        let task = self.head.get()?;
        let next = task.next_ready.get();
        self.head.set(next);
        if next.is_none() {
            self.tail.set(None);
        }
        task.queued.set(false);
        Some(task)
    }

    /// Wakes the task with this header, from any thread.
    pub(super) fn wake(&'static self, header: &'static Header) {
        if self.owner.is_current() {
            self.ready(header);
        } else {
            self.wake_remote(header);
        }
    }

    #[cold]
    fn wake_remote(&'static self, header: &'static Header) {
        if self.remote.push(header.index(), &header.remote) {
            self.ring_bell();
        }
    }

    /// Whether a foreign wake waits to be taken, at a glance.
    #[inline]
    pub(crate) fn has_remote(&self) -> bool {
        !self.remote.seems_empty()
    }

    /// The same, for certain: the look between saying "sleeping" and sleeping.
    pub(crate) fn has_remote_for_certain(&self) -> bool {
        !self.remote.is_empty()
    }

    /// Takes the foreign wakes.
    pub(crate) fn take_remote(&self) {
        self.remote.take(
            |index| &self.header(index).remote,
            |index| {
                self.counters.wakes.add(1);
                self.ready(self.header(index));
            },
        );
    }

    /// The task being polled.
    pub(super) fn current(&self) -> Option<&'static Header> {
        self.current.get()
    }

    /// The task being polled, if `waker` is its own.
    #[inline]
    pub(crate) fn current_if(&self, waker: &Waker) -> Option<&'static Header> {
        self.current.get().filter(|task| waker::is_of(waker, task))
    }

    // ---- slots ----

    /// The arena for futures of type `F`, or the `spawn` arena, where it fits. That one is the first
    /// without a type and is always declared, of no slots if need be; `calls` is the last.
    #[inline]
    pub(super) fn arena_for<F: Future + 'static>(&self, spawn_arena: bool) -> Option<u16> {
        let arenas = self.arenas.get();
        let id = const { TypeId::of::<F>() };
        let mut any = None;
        for (i, arena) in arenas.iter().enumerate() {
            match arena.decl.get().map(|decl| decl.id) {
                Some(Some(declared)) if declared == id => return Some(i as u16),
                Some(None) if any.is_none() => any = Some(i),
                _ => {}
            }
        }
        let any = any.filter(|_| spawn_arena)?;
        let size = size_of::<F>().max(size_of::<F::Output>());
        let align = align_of::<F>().max(align_of::<F::Output>());
        arenas[any].fits(size, align).then_some(any as u16)
    }

    /// The name of the task in a slot; from any thread, once the worker is set up.
    #[cfg(feature = "trace")]
    pub(crate) fn name_of(&self, index: u32) -> &'static str {
        let holds = |arena: &&Arena| index.wrapping_sub(arena.first.get()) < arena.count();
        self.arenas.get().iter().find(holds).map_or("", Arena::name)
    }

    /// All arenas, `spawn` and `calls` the last.
    pub(crate) fn arenas(&self) -> &'static [Arena] {
        self.arenas.get()
    }

    pub(super) fn arena(&self, arena: u16) -> &'static Arena {
        self.arenas.at(usize::from(arena))
    }

    /// The last arena: calls from outside.
    pub(crate) fn call_arena(&self) -> u16 {
        (self.arenas.get().len() - 1) as u16
    }

    /// 1: takes a free slot of the arena.
    #[inline]
    pub(crate) fn claim(&self, arena_index: u16) -> Option<u32> {
        let arena = self.arena(arena_index);
        let index = match arena.free.get() {
            0 if arena.fresh.get() < arena.count() => {
                let fresh = arena.fresh.get();
                arena.fresh.set(fresh + 1);
                arena.first.get() + fresh
            }
            0 => return None,
            free => {
                arena.free.set(self.header(free - 1).next_free.get());
                free - 1
            }
        };
        self.adopt(index, arena_index);
        Some(index)
    }

    /// Counts a slot that was taken, and says so in its header.
    #[inline]
    pub(super) fn adopt(&self, index: u32, arena_index: u16) {
        let arena = self.arena(arena_index);
        arena.live.rise();
        let header = self.header(index);
        header.arena.set(arena_index);
        header.body.set(arena.body(index));
        header.state.set(State::Claimed);
        let live = self.counters.tasks.get() + 1;
        self.counters.tasks.set(live);
        self.counters.tasks_peak.peak(live);
    }

    /// 2: builds the future in its claimed slot and queues it. A closure that panics gives the slot
    /// back on its way out.
    ///
    /// # Safety
    /// `index` was claimed and not started, in an arena whose slots fit `F` and its output.
    #[inline]
    pub(crate) unsafe fn start<F: Future<Output: Outcome> + 'static>(
        &self,
        index: u32,
        joined: bool,
        make: impl FnOnce() -> F,
    ) {
        struct GiveBack<'a>(&'a Tasks, u32);
        impl Drop for GiveBack<'_> {
            fn drop(&mut self) {
                self.0.free(self.1);
            }
        }
        let (header, body) = self.body(index);
        let give_back = GiveBack(self, index);
        // SAFETY: the slot is claimed, so its bytes are ours and hold nothing; the caller vouches
        // for size and alignment.
        unsafe { body.cast::<F>().write(make()) };
        core::mem::forget(give_back);
        header.vtable.set(Some(VTable::of::<F>()));
        header.joined.set(joined);
        header.abort.set(false);
        header.state.set(State::Live);
        self.trace.task(trace::Kind::Spawn, index);
        self.ready(header);
    }

    /// 5 and 6: gives a slot back whose body holds nothing any more.
    #[inline]
    pub(super) fn free(&self, index: u32) {
        self.retire(index);
        if self.is_call(index) {
            return self.free_thread_call(index);
        }
        let header = self.header(index);
        let arena = self.arena_of(header);
        header.next_free.set(arena.free.replace(index + 1));
        arena.waiters.wake_one(self);
    }

    /// Puts a header back to rest.
    #[inline]
    pub(super) fn retire(&self, index: u32) {
        let header = self.header(index);
        let arena = self.arena_of(header);
        header.state.set(State::Free);
        header.vtable.set(None);
        header.crossing.set(false);
        header.join.clear();
        arena.live.fall();
        self.trace.task(trace::Kind::End, index);
        self.counters.tasks.set(self.counters.tasks.get() - 1);
    }

    /// Wakes one more of those who wait for a slot that is free: the one woken before may have been
    /// given up, or forgotten. Tells whether there was one.
    #[inline]
    pub(crate) fn nudge(&self) -> bool {
        let mut woken = false;
        for arena in self.arenas.get() {
            if !arena.waiters.is_empty() && arena.has_room() {
                woken |= arena.waiters.wake_one(self);
            }
        }
        woken
    }

    // ---- polling ----

    /// Polls the next ready task; false where none is.
    #[inline(always)]
    pub(crate) fn poll_next(&self) -> bool {
        let Some(task) = self.pop_ready() else {
            return false;
        };
        if let Some(vtable) = task.vtable.get() {
            self.poll_one(task, vtable);
        }
        true
    }

    #[inline]
    fn poll_one(&self, header: &'static Header, vtable: &'static VTable) {
        if header.state.get() != State::Live {
            return;
        }
        if header.abort.get() {
            self.drop_future(header.index());
            return;
        }
        let body = header.body.get();
        self.current.set(Some(header));
        self.trace.task(trace::Kind::Poll, header.index());
        let waker = ManuallyDrop::new(waker::waker(header));
        let mut cx = Context::from_waker(&waker);
        // SAFETY: the state says that the body holds a future of the type the table is for.
        let polled = catch(|| unsafe { (vtable.poll)(body, header, &mut cx) });
        self.current.set(None);
        self.trace.task(trace::Kind::PollEnd, header.index());
        match polled {
            Ok(poll) if poll.is_pending() => {}
            Ok(_) => self.finish(header.index()),
            Err(panic) => {
                self.panicked(header, &panic);
                if header.state.get() == State::Live {
                    self.drop_future(header.index());
                } else {
                    header.state.set(State::Failed);
                    self.finish(header.index());
                }
            }
        }
    }

    /// 4: drops a live future where it is, and ends the task.
    fn drop_future(&self, index: u32) {
        let (header, body) = self.body(index);
        let Some(vtable) = header.vtable.get() else {
            return;
        };
        header.state.set(State::Ending);
        // SAFETY: the body held a future until this moment, and `Ending` keeps others from it.
        if let Err(panic) = catch(|| unsafe { (vtable.drop_future)(body) }) {
            self.panicked(header, &panic);
        }
        header.state.set(State::Failed);
        self.finish(index);
    }

    /// A task ended: its join handle takes the output, or it is looked at and dropped here.
    fn finish(&self, index: u32) {
        let (header, body) = self.body(index);
        if header.crossing.get() {
            return self.finish_call(index);
        }
        if header.joined.get() {
            header.join.wake(self);
            return;
        }
        if header.state.get() == State::Done {
            let Some(vtable) = header.vtable.get() else {
                return;
            };
            let task = self.arena_of(header).name();
            let mut report = |error: &dyn core::fmt::Debug, routine| {
                if routine {
                    self.counters.routine_failures.add(1);
                } else {
                    self.counters.failures.add(1);
                    self.tell(&Failure { task, kind: FailureKind::Error(error) });
                }
            };
            // SAFETY: `Done` says that the body holds the output.
            if let Err(panic) = catch(|| unsafe { (vtable.failure)(body, &mut report) }) {
                self.panicked(header, &panic);
            }
            header.state.set(State::Ending);
            // SAFETY: as above, and `Ending` keeps others from it.
            if let Err(panic) = catch(|| unsafe { (vtable.drop_output)(body) }) {
                self.panicked(header, &panic);
            }
        }
        self.free(index);
    }

    /// The join handle is gone: the output, if it is there, is looked at and dropped.
    pub(super) fn detach(&self, index: u32) {
        let (header, _) = self.body(index);
        header.joined.set(false);
        header.join.clear();
        if matches!(header.state.get(), State::Done | State::Failed) {
            self.finish(index);
        }
    }

    fn tell(&self, failure: &Failure<'_>) {
        if let Some(hook) = self.hook.get()
            && catch(|| hook.tell(failure)).is_err()
        {
            self.counters.panics.add(1); // its own fault ends nobody else
        }
    }

    #[cold]
    pub(super) fn panicked(&self, header: &Header, panic: &Panic) {
        self.counters.panics.add(1);
        let task = self.arena_of(header).name();
        self.tell(&Failure { task, kind: FailureKind::Panic(panic.text()) });
    }

    /// What was to make the future of a task panicked; no slot is taken.
    #[cfg(feature = "std")]
    #[cold]
    pub(crate) fn spawn_panicked<F: Future + 'static>(&self, panic: &Panic) {
        self.counters.panics.add(1);
        let task = self.arena_for::<F>(false).map_or("", |arena| self.arena(arena).name());
        self.tell(&Failure { task, kind: FailureKind::Panic(panic.text()) });
    }

    // ---- the end ----

    /// Drops every future, the newest arenas first; what they spawn is refused.
    pub(crate) fn drop_all(&self) {
        self.closed.set(true);
        for index in 0..self.headers.get().len() as u32 {
            if self.header(index).state.get() == State::Live {
                self.drop_future(index);
            }
        }
        while self.pop_ready().is_some() {}
    }

    /// Empties the lists of those who wait for room (see [`super::WaitList`]).
    pub(crate) fn wake_waiters(&self) {
        for arena in self.arenas.get() {
            arena.waiters.wake_all(self);
        }
        self.wake_call_waiters();
    }

    /// What is still held.
    pub(crate) fn held(&self, held: &mut Held) {
        // Of calls, the slots: a caller may hold one whose task is over.
        let arenas = self.arenas.get();
        let tasks = &arenas[..arenas.len().saturating_sub(1)];
        held.tasks += tasks.iter().map(|arena| arena.live.get()).sum::<u64>() as u32;
        held.tasks += self.calls_held();
    }
}

/// What a panic left.
pub(crate) struct Panic(#[cfg(feature = "std")] std::boxed::Box<dyn core::any::Any + Send>);

#[cfg(feature = "std")]
impl Drop for Panic {
    fn drop(&mut self) {
        // What was thrown is anybody's too. Where its drop panics as well, that one is let be.
        let thrown = core::mem::replace(&mut self.0, std::boxed::Box::new(()));
        if let Err(again) = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(thrown)))
        {
            core::mem::forget(again);
        }
    }
}

impl Panic {
    #[cfg(feature = "std")]
    fn text(&self) -> &str {
        if let Some(text) = self.0.downcast_ref::<&str>() {
            text
        } else if let Some(text) = self.0.downcast_ref::<std::string::String>() {
            text
        } else {
            "(a value that is no text)"
        }
    }

    #[cfg(not(feature = "std"))]
    fn text(&self) -> &str {
        ""
    }
}

/// Runs user code and catches its panic; without `std` a panic aborts before it gets here.
#[inline(always)]
pub(crate) fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    #[cfg(feature = "std")]
    return std::panic::catch_unwind(core::panic::AssertUnwindSafe(run)).map_err(Panic);
    #[cfg(not(feature = "std"))]
    Ok(run())
}
