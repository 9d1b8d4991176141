//! Accepting: one-shot operations into socket slots that kio chose beforehand.
//!
//! A multishot accept takes the whole backlog in one enter and drops what finds no slot (6.1 to
//! 6.18). So a listener arms single accepts, each with a free slot of its own: none armed means that
//! clients wait in the backlog. It arms few at first and more while they come in bursts.

use core::cell::Cell;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::list::List;
use super::slot::Kind;
use super::socket::{State, control_op, flag};
use super::{Io, RawAddr};
use crate::error::{Error, Result};
use crate::ring::Sqe;
use crate::ring::sys::close_fd;
use crate::task::{WaitNode, Waiter};

/// Accepts armed at once, at most.
const BATCH_MAX: u16 = 64;

/// A listener of one worker. The descriptor is closed when the last accept has ended.
///
/// ```text
///         open            close, stop           armed = 0
///  Free ---1---> Open ---------2-----> Closing -----3-----> Free
/// ```
///
/// 1 `Io::open_listener`, 2 `Io::close_listener`, 3 `Io::close_listener_if_idle`.
pub(crate) struct Listener {
    state: Cell<State>,
    real_fds: Cell<bool>,
    /// A resource was short: the next accept waits a moment.
    resting: Cell<bool>,
    fd: Cell<i32>,
    armed: Cell<u16>,
    batch: Cell<u16>,
    /// The turn in which an accept was armed last.
    armed_at: Cell<u32>,
    error: Cell<i32>,
    queue: List,
    queued: Cell<u16>,
    waiter: Waiter,
    /// Whether somebody waits in `accept`.
    waiting: Cell<bool>,
    local: RawAddr,
}

impl Listener {
    pub(crate) const fn new() -> Self {
        Self {
            state: Cell::new(State::Free),
            real_fds: Cell::new(false),
            resting: Cell::new(false),
            fd: Cell::new(0),
            armed: Cell::new(0),
            batch: Cell::new(0),
            armed_at: Cell::new(0),
            error: Cell::new(0),
            queue: List::new(),
            queued: Cell::new(0),
            waiter: Waiter::new(),
            waiting: Cell::new(false),
            local: RawAddr::new(),
        }
    }
}

/// What an accept finds.
pub(crate) enum Accepted {
    Socket(u32),
    /// A resource was short: wait a moment and come back.
    Rest,
    /// Stopping, and the backlog is empty.
    End,
}

impl Io {
    /// 1: takes a listening descriptor over.
    pub(crate) fn open_listener(
        &self,
        fd: rustix::fd::OwnedFd,
        local: &RawAddr,
        real_fds: bool,
    ) -> Result<u8> {
        use rustix::fd::IntoRawFd;
        let free = self.listeners.get().iter().position(|l| l.state.get() == State::Free);
        let Some(index) = free else {
            return Err(Error::Other("all listener slots of this worker are taken (8)"));
        };
        let listener = &self.listeners.get()[index];
        listener.state.set(State::Open);
        listener.real_fds.set(real_fds);
        listener.fd.set(fd.into_raw_fd());
        listener.batch.set(1);
        listener.error.set(0);
        listener.resting.set(false);
        listener.local.copy(local);
        Ok(index as u8)
    }

    fn listener(&self, index: u8) -> &'static Listener {
        &self.listeners.get()[usize::from(index)]
    }

    pub(crate) fn listener_addr(&self, index: u8) -> Option<core::net::SocketAddr> {
        self.listener(index).local.get()
    }

    /// Takes the next accepted connection. `node` waits for a socket slot where none is free.
    pub(crate) fn poll_accept(
        &'static self,
        index: u8,
        stopping: bool,
        node: Pin<&WaitNode>,
        cx: &Context<'_>,
    ) -> Poll<Result<Accepted>> {
        let listener = self.listener(index);
        if let Some(at) = listener.queue.pop(&self.sockets) {
            node.leave();
            listener.waiting.set(false);
            listener.queued.set(listener.queued.get() - 1);
            self.socket(at).state.set(State::Open);
            return Poll::Ready(Ok(Accepted::Socket(at)));
        }
        if listener.error.get() != 0 {
            return Poll::Ready(Err(Error::os("accept", listener.error.get())));
        }
        if listener.resting.replace(false) {
            return Poll::Ready(Ok(Accepted::Rest));
        }
        if stopping && self.backlog_is_empty(listener) {
            if listener.armed.get() > 0 {
                self.disarm(index);
            }
            if listener.armed.get() == 0 {
                listener.waiting.set(false);
                return Poll::Ready(Ok(Accepted::End));
            }
        } else if listener.state.get() == State::Open {
            self.arm_accepts(index);
            if stopping && listener.armed.get() > 0 {
                // Too early to know: the next turn tells, even if nobody connects.
                cx.waker().wake_by_ref();
            }
        }
        if listener.armed.get() == 0 {
            // Every socket slot is taken: clients wait in the backlog.
            if !node.is_waiting() {
                self.counters().accept_waits.add(1);
                self.used.waited();
            }
            node.wait(&self.socket_waiters, self.tasks(), cx);
        }
        listener.waiting.set(true);
        listener.waiter.register(self.tasks(), cx);
        Poll::Pending
    }

    /// An accept that was in the kernel for a whole turn and took nothing has seen the backlog
    /// empty.
    fn backlog_is_empty(&self, listener: &Listener) -> bool {
        let armed_for = self.turn.get().wrapping_sub(listener.armed_at.get());
        listener.state.get() != State::Open || (listener.armed.get() > 0 && armed_for >= 2)
    }

    fn arm_accepts(&self, index: u8) {
        let listener = self.listener(index);
        // Of the free slots most are left to connects, and one that waits for a slot comes first.
        let free = self.sockets.get().len() as u32 - self.sockets_used();
        let most = u32::from(listener.batch.get()).min((free / 4).max(1)) as u16;
        while self.connect_waiters.is_empty() && listener.armed.get() + listener.queued.get() < most
        {
            let Some(at) = self.take_socket() else { return };
            self.socket(at).listener.set(index + 1);
            self.submit(control_op(at), Kind::Accept);
            listener.armed.set(listener.armed.get() + 1);
            listener.armed_at.set(self.turn.get());
        }
    }

    /// Gives up one accept that is armed, for a connect that needs its slot.
    pub(super) fn disarm_one(&self) {
        for at in 0..self.fresh.get() {
            let socket = self.socket(at);
            let index = socket.listener.get().wrapping_sub(1);
            let op = self.slot(control_op(at));
            if socket.state.get() == State::Opening
                && op.kind.get() == Kind::Accept
                && !op.is_given_up()
            {
                if self.cancel(control_op(at)) {
                    self.free_socket(at);
                    self.disarmed(index);
                }
                return;
            }
        }
    }

    /// Gives up the accepts that are armed; what they took already still arrives.
    fn disarm(&self, index: u8) {
        let listener = self.listener(index);
        listener.state.set(State::Closing);
        for at in 0..self.fresh.get() {
            let socket = self.socket(at);
            if socket.state.get() == State::Opening
                && socket.listener.get() == index + 1
                && self.slot(control_op(at)).kind.get() == Kind::Accept
                && self.cancel(control_op(at))
            {
                self.free_socket(at);
                listener.armed.set(listener.armed.get() - 1);
            }
        }
    }

    /// One accept of this listener has ended, to the last of what it took.
    pub(super) fn disarmed(&self, index: u8) {
        let listener = self.listener(index);
        listener.armed.set(listener.armed.get() - 1);
        self.close_listener_if_idle(index);
    }

    pub(super) fn accept_sqe(&self, at: u32) -> Sqe {
        let socket = self.socket(at);
        let listener = self.listener(socket.listener.get() - 1);
        let (addr, len) = socket.peer.as_out();
        let slot = self.accepts_directly(listener).then_some(at);
        // SAFETY: the address is in the socket's static slot, which this accept owns.
        unsafe { Sqe::accept(listener.fd.get(), slot, addr, len) }
    }

    pub(super) fn accept_completed(&self, at: u32, result: i32) {
        let socket = self.socket(at);
        let index = socket.listener.get() - 1;
        let listener = self.listener(index);
        if result < 0 {
            self.free_socket(at);
            self.accept_failed(index, -result);
        } else if self.accepts_directly(listener) {
            self.accepted(at);
        } else {
            socket.fd.set(result + 1);
            if listener.real_fds.get() {
                socket.set(flag::REAL_FD);
            }
            if self.features.get().direct {
                socket.install.set(result);
                self.submit(control_op(at), Kind::Install);
            } else {
                self.accepted(at);
            }
        }
    }

    /// Whether a connection comes into the table, and not as a descriptor.
    fn accepts_directly(&self, listener: &Listener) -> bool {
        self.features.get().direct && !listener.real_fds.get()
    }

    /// 2 of a socket: it is connected and in the table.
    pub(super) fn accepted(&self, at: u32) {
        let socket = self.socket(at);
        if self.features.get().direct {
            socket.set(flag::INSTALLED);
        }
        socket.moved.set(self.now_ms.get());
        self.counters().accepted.add(1);
        let index = socket.listener.get() - 1;
        let listener = self.listener(index);
        self.disarmed(index);
        if listener.fd.get() < 0 {
            self.close(at); // too late: nobody is there to take it
            return;
        }
        self.opened();
        // Kept: the listener may go first.
        socket.local.copy(&listener.local);
        socket.state.set(State::Waiting);
        // One that was taken at once had waited in the backlog, and others may: arm more. One that
        // had to come first says the contrary.
        let waited = self.turn.get().wrapping_sub(listener.armed_at.get()) > 1;
        let batch = listener.batch.get();
        listener.batch.set(if waited { (batch / 2).max(1) } else { (batch * 2).min(BATCH_MAX) });
        listener.queue.push(&self.sockets, at);
        listener.queued.set(listener.queued.get() + 1);
        listener.waiter.wake(self.tasks());
    }

    /// Transient errors are counted and retried; where a resource is short, after a moment.
    pub(super) fn accept_failed(&self, index: u8, errno: i32) {
        let listener = self.listener(index);
        match errno {
            libc::ECANCELED => {}
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                self.counters().accept_errors.add(1);
                self.counters().accept_rests.add(1);
                listener.resting.set(true);
            }
            libc::EINVAL | libc::EBADF | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EACCES => {
                listener.error.set(errno);
            }
            _ => self.counters().accept_errors.add(1),
        }
        self.disarmed(index);
        listener.waiter.wake(self.tasks());
    }

    pub(super) fn open_listeners(&self) -> u32 {
        let listeners = self.listeners.get().iter();
        listeners.filter(|listener| listener.state.get() != State::Free).count() as u32
    }

    /// An `accept` is over, or was given up.
    pub(crate) fn accept_over(&self, index: u8) {
        self.listener(index).waiting.set(false);
    }

    /// Whether somebody waits in an `accept` that a stop has not ended yet.
    pub(crate) fn is_accepting(&self) -> bool {
        self.listeners.get().iter().any(|l| l.state.get() != State::Free && l.waiting.get())
    }

    /// While stopping: wakes who waits in an `accept` that has seen the backlog empty by now.
    pub(crate) fn nudge_listeners(&self) {
        for listener in self.listeners.get() {
            if listener.state.get() == State::Open
                && listener.waiting.get()
                && self.backlog_is_empty(listener)
            {
                listener.waiter.wake(self.tasks());
            }
        }
    }

    /// Wakes all who wait in `accept`, to see that the worker stops. What an accept that is armed
    /// has seen counts from now: clients may have come since its last turn.
    pub(crate) fn wake_listeners(&self) {
        for listener in self.listeners.get() {
            listener.armed_at.set(self.turn.get());
            listener.waiter.wake(self.tasks());
        }
    }

    /// 2: the handle is gone. What was accepted and not taken is closed.
    pub(crate) fn close_listener(&self, index: u8) {
        let listener = self.listener(index);
        if listener.state.get() == State::Free {
            return;
        }
        listener.waiter.clear();
        listener.waiting.set(false);
        self.disarm(index);
        // Ends the listening now: clients are refused, not left to wait for nobody.
        close_fd(listener.fd.replace(-1));
        while let Some(at) = listener.queue.pop(&self.sockets) {
            listener.queued.set(listener.queued.get() - 1);
            self.close(at);
        }
        self.close_listener_if_idle(index);
    }

    fn close_listener_if_idle(&self, index: u8) {
        let listener = self.listener(index);
        if listener.fd.get() < 0 && listener.armed.get() == 0 {
            listener.state.set(State::Free);
        }
    }
}
