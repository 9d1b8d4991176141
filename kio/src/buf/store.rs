//! Where buffers are while nobody reads them: the free list and the ring.

use core::cell::Cell;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::BufMut;
use super::provided::Provided;
use crate::error::{Error, Held, Result};
use crate::task::{Part, Table, Tasks, WaitList, WaitNode};

/// A buffer's state; N buffers are always N of these.
///
/// ```text
///            post              taken by a CQE          last holder lets go
///  Free ------1------> InRing ------2------> Held(n) ---------4---------> Free
///    \----------------------- 3: take -------^
/// ```
///
/// 1 [`Store::refill`], 2 [`Store::taken`], 3 [`Store::take`], 4 [`Store::release`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    InRing,
    Held,
}

/// What the store knows of one buffer; all zero while free.
pub(crate) struct Header {
    state: Cell<State>,
    /// Taken by a task, and not received.
    own: Cell<bool>,
    /// Who holds it, while `Held`.
    pub(crate) holders: Cell<u32>,
    /// The connection on whose account it is, as `Io::account` makes it; 0 is none.
    pub(crate) account: Cell<u32>,
    /// Index + 1 of the next free buffer, or of the next in a receive queue; while in the ring, its
    /// place there.
    pub(crate) next: Cell<u32>,
    /// The bytes of a queued buffer.
    pub(crate) start: Cell<u32>,
    pub(crate) len: Cell<u32>,
}

impl Header {
    pub(crate) const fn new() -> Self {
        Self {
            state: Cell::new(State::Free),
            own: Cell::new(false),
            holders: Cell::new(0),
            account: Cell::new(0),
            next: Cell::new(0),
            start: Cell::new(0),
            len: Cell::new(0),
        }
    }
}

/// The memory a store takes over, and how it is shared.
pub(crate) struct StoreMemory {
    pub(crate) headers: &'static [Header],
    pub(crate) buffers: Part,
    pub(crate) size: u32,
    pub(crate) ring: Part,
    pub(crate) ring_entries: u16,
    pub(crate) depth: u32,
    pub(crate) deepest: u32,
    pub(crate) reserve: u32,
}

/// The buffers of one worker. A static; all zero while idle.
pub(crate) struct Store {
    headers: Table<Header>,
    base: Cell<*mut u8>,
    size: Cell<u32>,
    /// Index + 1 of the buffer freed last: it is the warmest.
    free: Cell<u32>,
    free_count: Cell<u32>,
    in_ring: Cell<u32>,
    /// How many the ring should hold; grows when it runs dry.
    depth: Cell<u32>,
    /// What the depth may grow to.
    deepest: Cell<u32>,
    /// How many receives may not hold: they are kept for tasks, to send.
    reserve: Cell<u32>,
    /// How many tasks' own may not hold: they are kept for receives.
    kept: Cell<u32>,
    /// Held buffers that were taken by tasks, and not received.
    own: Cell<u32>,
    /// Milliseconds of the worker's clock at the start of this turn.
    pub(crate) now_ms: Cell<u64>,
    /// A task began to wait for a buffer since this was last asked.
    short: Cell<bool>,
    ring: Provided,
    waiters: WaitList,
    pub(super) tasks: Cell<Option<&'static Tasks>>,
}

impl Store {
    pub(crate) const fn new() -> Self {
        Self {
            headers: Table::new(),
            base: Cell::new(core::ptr::null_mut()),
            size: Cell::new(0),
            free: Cell::new(0),
            free_count: Cell::new(0),
            in_ring: Cell::new(0),
            depth: Cell::new(0),
            deepest: Cell::new(0),
            reserve: Cell::new(0),
            kept: Cell::new(0),
            own: Cell::new(0),
            now_ms: Cell::new(0),
            short: Cell::new(false),
            ring: Provided::new(),
            waiters: WaitList::new(),
            tasks: Cell::new(None),
        }
    }

    /// Takes the memory over. All buffers are free.
    pub(crate) fn set_up(&self, tasks: &'static Tasks, memory: &StoreMemory) {
        let StoreMemory { headers, buffers, size, ring, ring_entries, depth, deepest, reserve } =
            *memory;
        assert!(headers.len() * size as usize <= buffers.size(), "the memory holds all buffers");
        self.tasks.set(Some(tasks));
        self.headers.set(headers);
        self.base.set(buffers.start());
        self.size.set(size);
        self.depth.set(depth.min(deepest));
        self.deepest.set(deepest);
        self.reserve.set(reserve);
        self.kept.set(reserve.min((headers.len() as u32).saturating_sub(reserve)));
        self.own.set(0);
        self.in_ring.set(0);
        self.ring.set_up(ring, ring_entries);
        self.free.set(0);
        self.free_count.set(0);
        for index in (0..headers.len() as u32).rev() {
            headers[index as usize].state.set(State::Free);
            headers[index as usize].own.set(false);
            headers[index as usize].next.set(self.free.replace(index + 1));
            self.free_count.set(self.free_count.get() + 1);
        }
    }

    pub(crate) fn header(&self, index: u32) -> &'static Header {
        self.headers.at(index as usize)
    }

    pub(crate) fn headers(&self) -> &'static [Header] {
        self.headers.get()
    }

    /// Bytes of each buffer.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.size.get()
    }

    /// Where a buffer begins.
    #[inline]
    pub(crate) fn addr(&self, index: u32) -> *mut u8 {
        self.base.get().wrapping_add(index as usize * self.size.get() as usize)
    }

    /// Free, in the ring, held: what each of the three counts now.
    pub(crate) fn count(&self) -> (u32, u32, u32) {
        let all = self.headers.get().len() as u32;
        let (free, in_ring) = (self.free_count.get(), self.in_ring.get());
        (free, in_ring, all - free - in_ring)
    }

    fn pop_free(&self) -> Option<u32> {
        let index = self.free.get().checked_sub(1)?;
        self.free.set(self.header(index).next.get());
        self.free_count.set(self.free_count.get() - 1);
        Some(index)
    }

    /// 1: fills the ring up to its depth, keeping the reserve back. Warm buffers first.
    #[inline]
    pub(crate) fn refill(&self) {
        let mut posted = false;
        while self.in_ring.get() < self.depth.get() && self.can_refill() {
            let Some(index) = self.pop_free() else { break };
            self.header(index).state.set(State::InRing);
            self.in_ring.set(self.in_ring.get() + 1);
            let place = self.ring.post(self.addr(index), self.size.get(), index as u16);
            self.header(index).next.set(place.into());
            posted = true;
        }
        if posted {
            self.ring.publish();
        }
    }

    /// The ring ran dry: let it be deeper, while there are free buffers.
    pub(crate) fn deepen(&self) {
        if self.may_receive() {
            self.depth.set((self.depth.get() * 2).min(self.deepest.get()));
        }
    }

    /// 2: a completion brought this buffer; the caller holds it now. `None` where the kernel names
    /// one that is not in the ring: nothing of ours may be touched then.
    #[inline]
    pub(crate) fn taken(&self, id: u16) -> Option<u32> {
        let index = u32::from(id);
        let header = self.headers.find(usize::from(id))?;
        if header.state.get() != State::InRing {
            return None;
        }
        header.state.set(State::Held);
        header.holders.set(1);
        header.account.set(0);
        self.in_ring.set(self.in_ring.get() - 1);
        Some(index)
    }

    /// 2, of a bundle: `each` is given the buffers that a completion of so many bytes brought, from the
    /// first on in ring order, and the bytes in each; it holds them then. Returns the bytes that no
    /// buffer of the ring accounts for: none, where the kernel tells it right.
    #[inline]
    pub(crate) fn taken_bundle(&self, id: u16, bytes: u32, mut each: impl FnMut(u32, u32)) -> u32 {
        let Some(first) = self.headers.find(usize::from(id)) else { return bytes };
        let mut place = first.next.get() as u16;
        let (mut id, mut left) = (id, bytes);
        // Each step takes a buffer from the ring, so it ends.
        loop {
            let (posted, len) = self.ring.at(place);
            let Some(index) = self.taken(id) else { return left };
            debug_assert!(posted == id, "a buffer's place holds it");
            let n = left.min(len.min(self.size.get()));
            left -= n;
            each(index, n);
            if left == 0 {
                return 0;
            }
            place = place.wrapping_add(1);
            id = self.ring.at(place).0;
        }
    }

    /// Whether a free buffer may go to the ring: what tasks have taken, and could, is all they may.
    fn may_receive(&self) -> bool {
        self.free_count.get() + self.own.get() > self.reserve.get()
    }

    /// Whether a task may take a free buffer: never the last ones for receives, or requests would wait
    /// for the replies that nobody reads.
    fn may_take(&self) -> bool {
        self.free_count.get() > 0
            && self.own.get() + self.kept.get() < self.headers.get().len() as u32
    }

    /// 3: a free buffer, held by the caller, a task.
    pub(crate) fn take(&self) -> Option<u32> {
        if !self.may_take() {
            return None;
        }
        let index = self.pop_free()?;
        let header = self.header(index);
        header.state.set(State::Held);
        header.own.set(true);
        self.own.set(self.own.get() + 1);
        header.holders.set(1);
        header.account.set(0);
        Some(index)
    }

    /// One more holder.
    pub(crate) fn hold(&self, index: u32) {
        let header = self.header(index);
        debug_assert!(header.state.get() == State::Held);
        // More holders than a u32 counts need that many forgotten handles: stop before it wraps.
        header.holders.set(header.holders.get().checked_add(1).expect("holders of one buffer"));
    }

    /// 4: a holder lets go; the last one frees the buffer.
    #[inline]
    pub(crate) fn release(&self, index: u32) {
        let header = self.header(index);
        debug_assert!(header.state.get() == State::Held);
        let holders = header.holders.get() - 1;
        header.holders.set(holders);
        if holders > 0 {
            return;
        }
        header.state.set(State::Free);
        header.account.set(0);
        self.own.set(self.own.get() - u32::from(header.own.replace(false)));
        header.next.set(self.free.replace(index + 1));
        self.free_count.set(self.free_count.get() + 1);
        if !self.waiters.is_empty()
            && self.may_take()
            && let Some(tasks) = self.tasks.get()
        {
            self.waiters.wake_one(tasks);
        }
    }

    /// Whether the ring is empty, and will be until a buffer comes back.
    pub(crate) fn is_dry(&self) -> bool {
        self.in_ring.get() == 0 && !self.can_refill()
    }

    /// Whether there is a buffer for the ring. Where none is kept back for those who wait, they come
    /// first.
    #[inline]
    fn can_refill(&self) -> bool {
        let owed = self.reserve.get() == 0 && !self.waiters.is_empty();
        !owed && self.free_count.get() > 0 && self.may_receive()
    }

    /// Whether tasks wait for a buffer of their own.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Wakes one more who waits while a buffer is free: the one woken before may have been given up,
    /// or forgotten. Tells whether there was one.
    #[inline]
    pub(crate) fn nudge(&self) -> bool {
        !self.waiters.is_empty()
            && self.may_take()
            && self.tasks.get().is_some_and(|tasks| self.waiters.wake_one(tasks))
    }

    /// Whether the ring holds a buffer for the next receive.
    pub(crate) fn in_ring(&self) -> u32 {
        self.in_ring.get()
    }

    /// Whether a task began to wait for a buffer of its own since the last call.
    #[inline]
    pub(crate) fn take_short(&self) -> bool {
        self.short.replace(false)
    }

    /// Milliseconds of the clock when the first of those who wait began to.
    pub(crate) fn first_wait(&self) -> Option<u32> {
        self.waiters.first_key().map(|key| key as u32)
    }

    /// Wakes all that wait, as the worker ends.
    pub(crate) fn wake_waiters(&self) {
        if let Some(tasks) = self.tasks.get() {
            self.waiters.wake_all(tasks);
        }
    }

    /// What is still held.
    pub(crate) fn held(&self, held: &mut Held) {
        held.buffers += self.count().2;
    }
}

/// Waits for a free buffer; see `Core::buf`.
#[must_use = "it does nothing until awaited"]
pub struct Take {
    store: &'static Store,
    node: WaitNode,
}

impl Take {
    pub(crate) fn new(store: &'static Store) -> Self {
        Self { store, node: WaitNode::new() }
    }
}

impl Future for Take {
    type Output = Result<BufMut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let store = self.store;
        let Some(tasks) = store.tasks.get().filter(|tasks| tasks.owner.is_current()) else {
            return Poll::Ready(Err(Error::Stopped));
        };
        if self.node.has_turn(&store.waiters)
            && let Some(buf) = BufMut::take(store)
        {
            self.node.leave();
            return Poll::Ready(Ok(buf));
        }
        if tasks.closed.get() {
            return Poll::Ready(Err(Error::Stopped));
        }
        let begins = !self.node.is_waiting();
        tasks.counters.buffer_waits.add(u64::from(begins));
        store.short.set(store.short.get() || begins);
        // SAFETY: the node is pinned with the future and never moved.
        let node = unsafe { self.as_ref().map_unchecked(|this| &this.node) };
        node.wait_turn(&store.waiters, store.now_ms.get(), tasks, cx);
        Poll::Pending
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        // Woken and dropped before it was polled: the buffer it was told of goes to the next.
        if let Some(tasks) = self.store.tasks.get().filter(|tasks| tasks.owner.is_current())
            && !self.node.is_waiting()
            && self.store.may_take()
        {
            self.store.waiters.wake_one(tasks);
        }
    }
}
