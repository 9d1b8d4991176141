//! The loop of a worker: one system call a turn.

use core::sync::atomic::Ordering;

use super::{Barrier, Parts, Phase};
use crate::error::Result;
use crate::metrics::Op;
use crate::op::{HURRY, Io};
use crate::pool::Idle;
use crate::ring::{Ring, Wait, sys};
use crate::trace::Kind;

/// Tasks polled a turn, before the ring is looked at again: no task starves I/O.
const POLLS_A_TURN: u32 = 256;
/// As many, of those that computed for long. A look at the ring after each costs a handshake some five
/// per cent of its CPU time.
#[cfg(feature = "tls")]
const HEAVY_A_TURN: u8 = 4;
/// How long a stopped worker collects its last completions before it gives up. A time and not a
/// number of turns: a turn cancels 64 operations and ends as few as 20, of which there may be 65,536.
const LAST_SPAN: u64 = 5_000_000_000;
/// How long operations on files may take to end by themselves before they are cancelled: writes are
/// better done, but what reads from a FIFO might never end.
const FILES_SPAN: u64 = 500_000_000;
/// How long one wait for them is, at most.
const LAST_WAIT: u64 = 50_000_000;
/// How long a stopping worker waits for one more connection of the backlog.
const ACCEPT_WAIT: u64 = 1_000_000;
/// Spins in vain before a worker parks at once.
const MISSES_MAX: u32 = 8;

/// What a loop runs with.
pub(crate) struct LoopSetup<'a> {
    pub(crate) parts: &'static Parts,
    pub(crate) ring: Ring<'a>,
    pub(crate) eventfd: i32,
}

/// A worker's loop.
pub(crate) struct Loop<'a> {
    parts: &'static Parts,
    ring: Ring<'a>,
    eventfd: i32,
    /// Whether the standing wake-up has to be armed again.
    arm_wake: bool,
    /// When the drain is over, once stopping.
    drain_until: u64,
    /// After a stall, while others still wait: when the next look is due; else 0.
    stalled_until: u64,
    /// When the clock was last looked at, and by how much time it is behind: see [`Loop::tick`].
    looked: u64,
    absent: u64,
    /// How many signals had come when this was last looked at.
    signals: u32,
    /// Idle spells in a row that were longer than the spin.
    misses: u32,
    /// When this turn could begin: the last one was over, or a sleep was.
    began: u64,
    /// Somebody was woken for what is free; while others wait for the same, one wake is not enough.
    nudged: bool,
}

impl<'a> Loop<'a> {
    pub(crate) fn new(setup: LoopSetup<'a>) -> Self {
        let LoopSetup { parts, ring, eventfd } = setup;
        Self {
            parts,
            ring,
            eventfd,
            arm_wake: true,
            drain_until: 0,
            stalled_until: 0,
            looked: sys::monotonic(),
            absent: 0,
            signals: 0,
            misses: 0,
            began: sys::monotonic(),
            nudged: false,
        }
    }

    /// Runs until the pool stops and this worker has nothing left in the kernel, or gave up waiting.
    /// `drop_state` is called once its tasks are gone.
    pub(crate) fn run(&mut self, drop_state: impl FnOnce()) -> Result<()> {
        self.parts.tasks.open_calls();
        let turned = self.turns();
        turned.and(self.end(drop_state))
    }

    fn turns(&mut self) -> Result<()> {
        loop {
            let polled = self.take_completions();
            self.poll_tasks(POLLS_A_TURN - polled);
            self.look_around();
            if self.parts.stopping.get() && self.is_drained() && self.all_are_drained() {
                return Ok(());
            }
            self.parts.io.feed();
            self.push();
            let wait = self.wait();
            self.enter(wait)?;
        }
    }

    /// Lets the ring run.
    pub(crate) fn enable(&mut self) -> Result<()> {
        self.ring.enable()
    }

    /// Polls what was spawned before the loop began, so that an entry that fails at once (a port in
    /// use) fails the start.
    pub(crate) fn first_polls(parts: &'static Parts) {
        for _ in 0..POLLS_A_TURN {
            if !parts.tasks.poll_next() {
                return;
            }
        }
    }

    /// Takes what completed, and returns how many tasks it polled meanwhile.
    // Never inlined, so that it is there once, and what it calls is inlined in it.
    #[inline(never)]
    fn take_completions(&mut self) -> u32 {
        let (mut taken, mut polled) = (0, None);
        let trace = &self.parts.tasks.trace;
        trace.step(Kind::Take, 0);
        while let Some(cqe) = self.ring.pop() {
            // Sends mostly end as they are submitted, and come first. Who was waiting for one is polled
            // before arrivals are taken: one who slept through its arrival would answer it in the
            // place of its send, before those whose requests have waited for longer. Not in a drain,
            // where who finds nothing received ends.
            if polled.is_none() && cqe.buffer().is_some() && !self.parts.stopping.get() {
                polled = Some(self.poll_tasks(POLLS_A_TURN));
            }
            taken += 1;
            if self.parts.io.complete(cqe) && !cqe.more() {
                self.arm_wake = true;
            }
        }
        // Counted once a turn, when most is in use: arrivals hold their buffers.
        trace.step(Kind::TakeEnd, taken as u32);
        self.parts.tasks.counters.completed.add(taken);
        self.count_buffers();
        polled.unwrap_or(0)
    }

    /// Polls up to so many tasks, and returns how many.
    #[inline(never)] // as above
    fn poll_tasks(&self, most: u32) -> u32 {
        let mut polls = 0;
        while polls < most && self.parts.tasks.poll_next() {
            polls += 1;
            #[cfg(feature = "tls")]
            if self.parts.tasks.heavy.get() >= HEAVY_A_TURN {
                self.parts.tasks.heavy.set(0);
                break;
            }
        }
        self.parts.tasks.counters.polls.add(polls.into());
        polls
    }

    /// Everything but the ring: the clock and its timers, other threads, the phase, the starved.
    #[inline]
    fn look_around(&mut self) {
        let parts = self.parts;
        let now = sys::monotonic();
        self.tick(now);
        parts.io.turn.set(parts.io.turn.get().wrapping_add(1));
        parts.tasks.counters.turns.add(1);
        parts.tasks.counters.turn_times.record(now.saturating_sub(self.began));
        self.began = now;
        parts.timers.advance(now, &parts.tasks);
        if parts.tasks.has_remote() {
            parts.tasks.take_remote();
        }
        parts.calls.begin(&parts.tasks, parts);
        parts.tasks.begin_calls(parts);
        parts.tasks.look_for_room();
        parts.io.take_mail();
        let signals = parts.shared().signals_came();
        if signals != self.signals {
            self.signals = signals;
            parts.signal_waiters.wake_all(&parts.tasks);
        }
        if parts.shared().is_stopping() && !parts.stopping.get() {
            self.begin_stop(now);
        }
        if parts.stopping.get() {
            parts.io.nudge_listeners();
        }
        self.nudged = parts.tasks.nudge()
            | parts.io.bufs.nudge()
            | parts.io.nudge_sockets()
            | parts.io.nudge_files();
        self.look_at_starved(now);
    }

    /// Tells the clock by which bytes and waits for buffers are stamped, after a sleep too: what comes
    /// then has not waited while nobody looked. While somebody waits, a look counts as a part of
    /// `stall` at most: a worker that could not run, with its machine perhaps, finds all that wait to
    /// have waited for long, and must reset nobody for that.
    #[inline]
    fn tick(&mut self, now: u64) {
        let since = now.saturating_sub(self.looked);
        self.looked = now;
        let io = &self.parts.io;
        if io.is_starved() {
            self.absent += since.saturating_sub(self.look_span());
        }
        io.set_clock(now.saturating_sub(self.absent) / 1_000_000);
    }

    /// How often a worker looks at those who wait for buffers, in nanoseconds.
    fn look_span(&self) -> u64 {
        (self.parts.config().stall / u64::from(HURRY)).max(1_000_000)
    }

    #[inline]
    fn look_at_starved(&mut self, now: u64) {
        let io = &self.parts.io;
        if io.bufs.take_short() {
            io.flush_all();
        }
        if !io.is_starved() {
            self.stalled_until = 0;
        } else if now >= self.stalled_until && io.longest_wait() >= self.stall_ms() {
            let again = self.stalled_until != 0;
            self.stalled_until = now + self.look_span();
            io.reset_stalled(self.stall_ms(), again);
        }
    }

    fn stall_ms(&self) -> u32 {
        u32::try_from(self.parts.config().stall / 1_000_000).unwrap_or(u32::MAX).max(1)
    }

    #[inline(never)] // as above
    fn push(&mut self) {
        if self.arm_wake && self.ring.has_room() {
            self.arm_wake = false;
            self.ring.push(&Io::wake_sqe(self.eventfd));
            self.parts.tasks.counters.ops.add(Op::Wake);
        }
        while self.parts.tasks.owes()
            && self.ring.has_room()
            && let Some((worker, ring)) = self.parts.tasks.next_owed()
        {
            self.ring.push(&Io::message_sqe(worker, ring));
            self.parts.tasks.counters.ops.add(Op::Message);
        }
        let mut pushed = 0;
        while self.ring.has_room()
            && let Some(sqe) = self.parts.io.next_sqe()
        {
            pushed += 1;
            self.ring.push(&sqe);
        }
        let ring = &mut self.ring;
        while ring.has_room() && self.parts.io.next_file_sqe(|sqe| ring.push(sqe)) {
            pushed += 1;
        }
        let counters = &self.parts.tasks.counters;
        let in_flight = u64::from(self.parts.io.in_flight());
        counters.submitted.add(pushed);
        counters.in_flight.set(in_flight);
        counters.in_flight_peak.peak(in_flight);
        self.count_buffers(); // a sleep may follow, and somebody may read
    }

    fn count_buffers(&self) {
        let counters = &self.parts.tasks.counters;
        let held = u64::from(self.parts.io.bufs.count().2);
        counters.buffers.set(held);
        counters.buffers_peak.peak(held);
    }

    /// How long this turn may wait: not at all while somebody can run.
    #[inline]
    fn wait(&self) -> Wait {
        let parts = self.parts;
        let io = &parts.io;
        let can_push = io.has_submissions() || io.has_file_submissions() || parts.tasks.owes();
        // One who was nudged may look no more, and then the next in line is to be: another turn.
        if parts.tasks.has_ready() || self.nudged || can_push || io.can_feed() {
            return Wait::No;
        }
        let now = parts.timers.turn();
        let mut due = parts.timers.next_due();
        if parts.io.is_starved() {
            let left = u64::from(self.stall_ms().saturating_sub(io.longest_wait())) * 1_000_000;
            let stall = left.max(self.stalled_until.saturating_sub(now)).min(self.look_span());
            due = Some(due.map_or(stall, |due| due.min(stall)));
        }
        if parts.stopping.get() {
            let most = if parts.io.is_accepting() { ACCEPT_WAIT } else { LAST_WAIT };
            // Past the drain it waits for the others' end.
            let left = self.drain_until.saturating_sub(now);
            let drain = if left > 0 { left.min(most) } else { most };
            due = Some(due.map_or(drain, |due| due.min(drain)));
        }
        due.map_or(Wait::Forever, Wait::For)
    }

    #[inline]
    fn enter(&mut self, mut wait: Wait) -> Result<()> {
        if wait != Wait::No {
            let spin = self.parts.config().idle;
            if let Idle::Spin(nanos) = spin
                && self.misses < MISSES_MAX
            {
                self.enter_ring(Wait::No)?;
                if self.spin(nanos) {
                    self.began = sys::monotonic(); // watching is no part of a turn
                    self.tick(self.began);
                    self.misses = 0;
                    wait = Wait::No;
                } else {
                    self.misses += 1;
                }
            }
        }
        if wait == Wait::No {
            return self.enter_ring(Wait::No);
        }
        let tasks = &self.parts.tasks;
        tasks.bell.say_sleeping();
        let parts = self.parts;
        let posted = !parts.calls.is_empty()
            || !parts.io.files.mailbox.is_empty()
            || tasks.has_calls_for_certain();
        if tasks.has_remote_for_certain() || posted || self.phase_changed() {
            wait = Wait::No;
        }
        let slept = self.enter_ring(wait);
        tasks.bell.say_awake();
        if wait != Wait::No {
            self.began = sys::monotonic(); // a sleep is no part of a turn
            self.tick(self.began);
        }
        slept?;
        self.judge_sleep();
        Ok(())
    }

    #[inline]
    fn enter_ring(&mut self, wait: Wait) -> Result<()> {
        let tasks = &self.parts.tasks;
        tasks.trace.step(Kind::Enter, u32::from(wait != Wait::No));
        let entered = self.ring.enter(wait);
        tasks.trace.step(Kind::EnterEnd, 0);
        tasks.counters.enters.add(u64::from(entered?));
        Ok(())
    }

    /// A sleep that was shorter than the spin: spinning pays again.
    fn judge_sleep(&mut self) {
        if let Idle::Spin(nanos) = self.parts.config().idle
            && self.misses >= MISSES_MAX
            && self.began.saturating_sub(self.parts.timers.turn()) < nanos
        {
            self.misses = 0;
        }
    }

    /// Watches from user space for a while; true where something came.
    fn spin(&mut self, nanos: u64) -> bool {
        let until = sys::monotonic() + nanos;
        loop {
            for _ in 0..32 {
                if self.ring.has_task_work()
                    || self.ring.has_completions()
                    || self.parts.tasks.has_remote()
                    || !self.parts.calls.is_empty()
                    || !self.parts.io.files.mailbox.is_empty()
                    || self.parts.tasks.has_calls()
                {
                    return true;
                }
                core::hint::spin_loop();
            }
            if self.phase_changed() || sys::monotonic() >= until {
                return false;
            }
        }
    }

    fn phase_changed(&self) -> bool {
        let shared = self.parts.shared();
        let stopping = self.parts.stopping.get();
        shared.signals_came() != self.signals
            || (!stopping && shared.is_stopping())
            || (stopping && shared.phase() >= Phase::Dropping)
    }

    // ---- the end ----

    /// Tells everybody that the pool stops: listeners take what is in the backlog and end, idle
    /// connections end, the others have the drain time.
    fn begin_stop(&mut self, now: u64) {
        let parts = self.parts;
        parts.stopping.set(true);
        self.drain_until = now.saturating_add(parts.config().drain);
        parts.stop_waiters.wake_all(&parts.tasks);
        parts.signal_waiters.wake_all(&parts.tasks);
        parts.io.wake_listeners();
        parts.io.wake_receivers();
    }

    /// Whether the drain is over: no connection and no accept is left, or the time or the patience
    /// (a second signal) is.
    fn is_drained(&self) -> bool {
        let parts = self.parts;
        let counters = &parts.tasks.counters;
        let idle = counters.open.get() == 0 && !parts.io.is_accepting() && !parts.tasks.has_ready();
        idle || parts.shared().phase() >= Phase::Dropping || parts.timers.turn() >= self.drain_until
    }

    /// Whether the other workers have nothing left to serve either: until then this one answers them.
    fn all_are_drained(&self) -> bool {
        let shared = self.parts.shared();
        self.parts.pass(shared, Barrier::Drained);
        shared.is_open(Barrier::Drained)
    }

    /// Drops the tasks, closes everything, and waits for the kernel and the other workers to let go.
    pub(crate) fn end(&mut self, drop_state: impl FnOnce()) -> Result<()> {
        let parts = self.parts;
        parts.pass(parts.shared(), Barrier::Drained);
        parts.calls.close();
        parts.tasks.close_calls();
        parts.tasks.drop_all();
        drop_state();
        parts.io.close_all();
        let began = sys::monotonic();
        let mut left = Ok(());
        while parts.io.in_flight() > 0 || parts.io.sockets_used() > 0 || parts.io.files_busy() {
            if sys::monotonic() - began >= LAST_SPAN {
                break;
            }
            left = self.last_turn(began);
            if left.is_err() {
                break; // what is in the kernel stays there: the pool retires
            }
        }
        parts.wake_waiters();
        self.wait_for_others(began, left.is_ok());
        parts.tasks.counters.overflows.set(self.ring.overflows().into());
        left
    }

    /// A turn without tasks, of an end that `began` then. What others leave here still is taken, and
    /// finds nobody.
    fn last_turn(&mut self, began: u64) -> Result<()> {
        if sys::monotonic() - began >= FILES_SPAN {
            self.parts.io.cancel_files();
        }
        self.parts.io.take_mail();
        self.push();
        self.enter(Wait::For(LAST_WAIT))?;
        self.take_completions();
        let tasks = &self.parts.tasks;
        tasks.take_remote();
        while tasks.poll_next() {}
        tasks.look_for_room();
        Ok(())
    }

    /// Keeps the ring until no worker sends a message any more. This one has sent its last before it
    /// says so, and wakes nobody through a ring after that.
    fn wait_for_others(&mut self, began: u64, mut serves: bool) {
        let (tasks, shared) = (&self.parts.tasks, self.parts.shared());
        tasks.settle();
        self.parts.pass(shared, Barrier::Quiet);
        while serves && !shared.is_open(Barrier::Quiet) {
            tasks.settle();
            serves = self.last_turn(began).is_ok();
        }
        shared.wait_open(Barrier::Quiet);
        tasks.ring.store(0, Ordering::Release);
    }
}
