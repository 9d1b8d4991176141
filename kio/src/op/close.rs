//! The end of a socket: free slots, the close machine, shutdown and reset.

use core::pin::Pin;
use core::task::{Context, Poll};

use super::Io;
use super::slot::Kind;
use super::socket::{Socket, State, control_op, flag, recv_op, send_op};
use crate::error::{Error, Result};
use crate::ring::sys::{close_fd, shutdown_write};
use crate::task::WaitNode;

impl Io {
    /// 1 of a socket: a free slot, opening.
    pub(super) fn take_socket(&self) -> Option<u32> {
        let at = match self.free.get() {
            0 if (self.fresh.get() as usize) < self.sockets.get().len() => {
                let fresh = self.fresh.get();
                self.fresh.set(fresh + 1);
                fresh
            }
            0 => return None,
            free => {
                self.free.set(self.socket(free - 1).next_free.get());
                free - 1
            }
        };
        self.socket(at).state.set(State::Opening);
        self.used.rise();
        Some(at)
    }

    /// Counts one more open connection.
    pub(super) fn opened(&self) {
        let counters = self.counters();
        let open = counters.open.get() + 1;
        counters.open.set(open);
        counters.open_peak.peak(open);
    }

    /// 5: everything of the socket has ended, and its place in the table is empty.
    pub(super) fn free_socket(&self, at: u32) {
        let socket = self.socket(at);
        debug_assert!(
            ![recv_op(at), send_op(at), control_op(at)].iter().any(|op| self.is_busy(*op))
        );
        close_fd(socket.fd.replace(0) - 1);
        socket.state.set(State::Free);
        socket.flags.set(0);
        socket.listener.set(0);
        socket.rx_error.set(0);
        socket.tx_error.set(0);
        socket.tx_ready.set(false);
        socket.rx_timer.leave();
        socket.tx_timer.leave();
        socket.rx_timeout.set(0);
        socket.relay.set(0);
        socket.relay_to.set(0);
        socket.tx_timeout.set(0);
        socket.peer.clear();
        socket.local.clear();
        #[cfg(feature = "tls")]
        socket.records.clear();
        socket.generation.set(socket.generation.get().wrapping_add(1));
        socket.next_free.set(self.free.replace(at + 1));
        self.used.fall();
        socket.control_waiter.wake(self.tasks());
        self.nudge_sockets();
    }

    /// Wakes who waits for a socket slot, where one is free: connects first, all of them, since one
    /// that was woken may be given up before it looks; the accepts in the next turn, if all were.
    /// Tells whether somebody waited.
    #[inline]
    pub(crate) fn nudge_sockets(&self) -> bool {
        let waiters = match self.connect_waiters.is_empty() {
            true => &self.socket_waiters,
            false => &self.connect_waiters,
        };
        if waiters.is_empty() || self.used.get() as usize == self.sockets.get().len() {
            return false;
        }
        waiters.wake_all(self.tasks());
        true
    }

    /// 4: starts the close machine. Nothing is armed from here on; what runs is cancelled, its
    /// terminal completions are collected, then the table's slot is emptied.
    pub(crate) fn close(&self, at: u32) {
        let socket = self.socket(at);
        match socket.state.get() {
            State::Free | State::Closing => return,
            State::Waiting | State::Open => {
                let counters = self.counters();
                counters.open.set(counters.open.get() - 1);
            }
            State::Opening => {}
        }
        socket.state.set(State::Closing);
        socket.rx_waiter.clear();
        socket.tx_waiter.clear();
        socket.control_waiter.clear();
        self.leave_starved(at);
        self.drop_received(at);
        self.cancel_recv(at);
        self.cancel(send_op(at));
        self.cancel(control_op(at));
        if !self.is_busy(send_op(at)) {
            self.drop_outbox(at);
        }
        self.close_if_idle(at, socket);
    }

    /// Another handle of the connection.
    pub(crate) fn add_handle(&self, at: u32) {
        self.socket(at).handles.set(self.socket(at).handles.get() + 1);
    }

    /// One handle less; the last one closes. A send half that goes first ends the write side.
    pub(crate) fn drop_handle(&self, at: u32, sends: bool) {
        let socket = self.socket(at);
        socket.handles.set(socket.handles.get() - 1);
        if socket.handles.get() == 0 {
            self.close(at);
        } else if sends && socket.state.get() == State::Open && !socket.has(flag::WRITE_CLOSED) {
            socket.set(flag::WRITE_CLOSED | flag::SHUT_PENDING);
            self.start_send(at, socket);
            self.shut_if_pending(at, socket);
        }
    }

    /// Ends the write side of a send half that is gone, once all it had pushed is out.
    #[inline]
    pub(super) fn shut_if_pending(&self, at: u32, socket: &Socket) {
        if socket.has(flag::SHUT_PENDING) {
            self.shut(at, socket);
        }
    }

    #[cold]
    fn shut(&self, at: u32, socket: &Socket) {
        if !self.is_busy(send_op(at)) && !self.is_busy(control_op(at)) {
            socket.unset(flag::SHUT_PENDING);
            match socket.shut_now() {
                // Nobody is woken: whoever waits for this waits for the last send too.
                Some(result) => socket.control.set(result),
                None => self.submit(control_op(at), Kind::Shutdown),
            }
        }
    }

    /// A connect waits for a free socket slot; an accept that waits for clients gives one up.
    pub(crate) fn wait_socket(&'static self, node: Pin<&WaitNode>, cx: &Context<'_>) {
        if !node.is_waiting() {
            self.counters().connect_waits.add(1);
            self.used.waited();
        }
        node.wait(&self.connect_waiters, self.tasks(), cx);
        self.disarm_one();
    }

    /// Goes on with closing once no operation of the socket runs.
    #[inline]
    pub(super) fn close_if_idle(&self, at: u32, socket: &Socket) {
        if socket.state.get() != State::Closing
            || self.is_busy(recv_op(at))
            || self.is_busy(send_op(at))
            || self.is_busy(control_op(at))
        {
            return;
        }
        if socket.has(flag::INSTALLED) {
            self.submit(control_op(at), Kind::Close);
        } else {
            self.free_socket(at);
        }
    }

    /// Which connection the slot holds now; another number once this one is closed.
    pub(crate) fn generation(&self, at: u32) -> u32 {
        self.socket(at).generation.get()
    }

    /// Waits until the socket that was `generation` is closed and its slot is free.
    pub(crate) fn poll_closed(&self, at: u32, generation: u32, cx: &Context<'_>) -> Poll<()> {
        let socket = self.socket(at);
        if socket.generation.get() != generation {
            return Poll::Ready(());
        }
        socket.control_waiter.register(self.tasks(), cx);
        Poll::Pending
    }

    /// Ends the write side. The outbox must be empty. By a system call where there is a descriptor to
    /// name: the ring hands every shutdown to a thread of io-wq (`io_shutdown_prep` forces it, 5.11 to
    /// 7.3), so the peer would hear of the end only when that thread had its turn on some CPU.
    pub(crate) fn poll_shutdown(&self, at: u32, cx: &Context<'_>) -> Poll<Result<()>> {
        let socket = self.socket(at);
        if socket.has(flag::CONTROL_DONE) {
            socket.unset(flag::CONTROL_DONE);
            return Poll::Ready(shut_result(socket.control.get()));
        }
        if !self.is_busy(control_op(at)) {
            if socket.state.get() != State::Open {
                return Poll::Ready(Err(Error::Stopped)); // nothing is queued on what is closed
            }
            if socket.has(flag::WRITE_CLOSED) {
                return Poll::Ready(Ok(()));
            }
            socket.set(flag::WRITE_CLOSED);
            if let Some(result) = socket.shut_now() {
                return Poll::Ready(shut_result(result));
            }
            self.submit(control_op(at), Kind::Shutdown);
        }
        socket.control_waiter.register(self.tasks(), cx);
        Poll::Pending
    }

    /// Ends both directions of a connection whose buffers others need: its holder is told at its
    /// next await.
    pub(super) fn reset(&self, at: u32) {
        let socket = self.socket(at);
        socket.set(flag::STALLED);
        socket.rx_error.set(libc::ECONNRESET);
        self.leave_starved(at);
        self.cancel_recv(at);
        // Before anything is let go: that may wake somebody, who may drop the connection.
        if socket.tx_error.get() == 0 {
            socket.tx_error.set(libc::ECONNRESET);
        }
        self.drop_received(at);
        if socket.state.get() == State::Open {
            self.fail_sends(at, libc::ECONNRESET);
        }
        socket.rx_waiter.wake(self.tasks());
    }

    /// Closes every listener and every socket, as the worker ends.
    pub(crate) fn close_all(&self) {
        for index in 0..self.listeners.get().len() {
            self.close_listener(index as u8);
        }
        for at in 0..self.fresh.get() {
            self.close(at);
        }
    }
}

impl Socket {
    /// Ends the write side at once, where it has a real descriptor: what came of it.
    fn shut_now(&self) -> Option<i32> {
        let fd = self.fd.get() - 1;
        (fd >= 0).then(|| shutdown_write(fd))
    }
}

fn shut_result(result: i32) -> Result<()> {
    match result {
        0 => Ok(()),
        errno => Err(Error::os("shutdown", -errno)),
    }
}
