//! The yardstick: what a server costs when its loop is written by hand for one workload.
//!
//! One thread, one ring, no allocation once it serves. Multishot direct accept into the fixed-file
//! table, multishot recv from a provided buffer ring, plain sends with a completion each, one
//! submit-and-wait a turn. A connection is its slot in the table; see `conn.rs` for its life.

mod conn;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{cqueue, opcode, squeue, types};

use super::{Options, ready, served};
use crate::Result;
use crate::bufring::{BufRing, GROUP};
use crate::ring::{self, Ring};
use crate::sys;
use crate::workload::{REPLY, Workload, replies};
use conn::{Batch, Conn, Queues};

/// Slots of the fixed-file table, if the descriptor limit allows.
const TABLE: u64 = 16 * 1024;
/// Completions that can be outstanding: each buffer one, sends and accepts below the rest.
const CQ: u32 = 16 * 1024;
/// Bytes of a receive buffer.
const BUFFER: u32 = 16 * 1024;
/// Failed accepts in a row before the server gives up.
const ACCEPT_ERRORS: u32 = 100;

const RECV_MULTISHOT: u16 = 2;

/// What a completion belongs to: the high half of its user data; the low half is the slot.
const ACCEPT: u64 = 1;
const RECV: u64 = 2;
const SEND: u64 = 3;
const CLOSE: u64 = 4;
const STOP: u64 = 5;
const SHUT: u64 = 6;

/// Serves until SIGTERM, with `buffers` receive buffers.
pub fn run(options: &Options, buffers: u16) -> Result<()> {
    let listener = sys::listen(options.port)?;
    let port = std::net::TcpListener::from(listener.try_clone()?).local_addr()?.port();
    let stop = sys::stop_fd()?;
    let slots = sys::raise_nofile()?.min(TABLE) as u32;

    let mut uring = ring::build(CQ)?;
    let ring = Ring::over(&mut uring)?;
    ring.submitter().register_files_sparse(slots)?;
    let bufs = BufRing::new(&ring, buffers, BUFFER)?;
    let mut server = Server {
        conns: vec![Conn::default(); slots as usize],
        queues: Queues::new(buffers),
        ready: Vec::with_capacity(slots as usize),
        starved: VecDeque::with_capacity(slots as usize),
        accept_errors: 0,
        stopping: false,
        workload: options.workload,
        listener: types::Fd(listener.as_fd().as_raw_fd()),
        ring,
        bufs,
    };
    let poll = opcode::PollAdd::new(types::Fd(stop.as_raw_fd()), libc::POLLIN as u32).build();
    server.push(poll, STOP, 0)?;
    server.accept()?;
    ready(port)?;
    while !server.stopping {
        server.ring.turn(options.spin)?;
        while let Some(cqe) = server.ring.pop() {
            server.complete(&cqe)?;
        }
        server.send_ready()?;
        server.bufs.publish();
        server.rearm_starved()?;
    }
    Ok(())
}

struct Server<'a> {
    ring: Ring<'a>,
    bufs: BufRing,
    conns: Vec<Conn>,
    queues: Queues,
    /// Echo connections with buffers to send and no send in flight; each is in it at most once.
    ready: Vec<u32>,
    /// Connections whose recv found no buffer, oldest first; each is in it at most once.
    starved: VecDeque<u32>,
    accept_errors: u32,
    stopping: bool,
    workload: Workload,
    listener: types::Fd,
}

impl Server<'_> {
    #[inline]
    fn push(&mut self, entry: squeue::Entry, kind: u64, slot: u32) -> io::Result<()> {
        let entry = entry.user_data(kind << 32 | u64::from(slot));
        // SAFETY: entries point to `REPLIES` (static), or to buffers of `bufs` and messages of `queues`
        // that are used anew only when the send's completion is in.
        unsafe { self.ring.push(&entry) }
    }

    #[inline]
    fn complete(&mut self, cqe: &cqueue::Entry) -> io::Result<()> {
        let slot = cqe.user_data() as u32;
        match cqe.user_data() >> 32 {
            RECV => self.received(slot, cqe),
            SEND => self.sent(slot, cqe.result()),
            ACCEPT => self.accepted(cqe),
            STOP => {
                self.stopping = true;
                Ok(())
            }
            // Only failures post one. The send linked before this close had failed: close alone.
            CLOSE if cqe.result() == -libc::ECANCELED => self.close(slot),
            _ => Ok(()),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(self.listener).allocate_file_index(true).build();
        self.push(entry, ACCEPT, 0)
    }

    fn accepted(&mut self, cqe: &cqueue::Entry) -> io::Result<()> {
        if let Ok(slot) = u32::try_from(cqe.result()) {
            self.accept_errors = 0;
            self.conns[slot as usize] = Conn::default();
            self.recv(slot)?;
        } else {
            self.accept_errors += 1;
            if self.accept_errors > ACCEPT_ERRORS {
                return Err(io::Error::from_raw_os_error(-cqe.result()));
            }
        }
        if !cqueue::more(cqe.flags()) { self.accept() } else { Ok(()) }
    }

    /// Arms the receive: multishot, but for `close`, whose connection lives for one request.
    #[inline]
    fn recv(&mut self, slot: u32) -> io::Result<()> {
        self.conns[slot as usize].receiving = true;
        let shot = if self.workload == Workload::Close { 0 } else { RECV_MULTISHOT };
        let entry = opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .ioprio(shot)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry, RECV, slot)
    }

    #[inline]
    fn received(&mut self, slot: u32, cqe: &cqueue::Entry) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        conn.receiving = cqueue::more(cqe.flags());
        let Some(id) = cqueue::buffer_select(cqe.flags()) else {
            if cqe.result() == -libc::ENOBUFS {
                // Still counts as receiving: it will be armed again, and then see how the socket stands.
                conn.receiving = true;
                self.starved.push_back(slot);
                return Ok(());
            }
            conn.ended = true;
            return self.settle(slot);
        };
        self.bufs.take();
        let len = cqe.result().max(0) as usize;
        match self.workload {
            Workload::Echo if len > 0 && !conn.ended => {
                served(1);
                self.queues.add(conn, id, len as u32);
                if !std::mem::replace(&mut conn.sending, true) {
                    self.ready.push(slot);
                }
            }
            Workload::Http => {
                conn.owed += conn.scanner.count(self.bufs.bytes(id, len));
                self.bufs.give(id);
                self.send_owed(slot)?;
            }
            Workload::Close => {
                let found = conn.scanner.count(self.bufs.bytes(id, len));
                self.bufs.give(id);
                if found > 0 {
                    served(1);
                    return self.send_and_close(slot);
                }
            }
            Workload::Echo => self.bufs.give(id),
        }
        if self.conns[slot as usize].receiving {
            return Ok(());
        }
        if len > 0 {
            return self.recv(slot);
        }
        self.conns[slot as usize].ended = true;
        self.settle(slot)
    }

    /// Sends what http owes, unless a send is in flight: one a socket, or the order is lost.
    #[inline]
    fn send_owed(&mut self, slot: u32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        if conn.sending || conn.owed == 0 {
            return Ok(());
        }
        let bytes = replies(conn.owed);
        let count = (bytes.len() / REPLY.len()) as u32;
        conn.owed -= count;
        conn.sending = true;
        served(count);
        self.send(slot, bytes.as_ptr(), bytes.len() as u32)
    }

    /// Sends what echo received in this turn: all of it that one connection got in one send.
    #[inline]
    fn send_ready(&mut self) -> io::Result<()> {
        for i in 0..self.ready.len() {
            let slot = self.ready[i];
            let conn = &mut self.conns[slot as usize];
            match self.queues.batch(conn, |id| self.bufs.addr(id)) {
                Batch::One(id, len) => self.send(slot, self.bufs.addr(id), len)?,
                Batch::Many(message) => {
                    let entry = opcode::SendMsg::new(types::Fixed(slot), message)
                        .flags((libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32)
                        .build();
                    self.push(entry, SEND, slot)?;
                }
            }
        }
        self.ready.clear();
        Ok(())
    }

    #[inline]
    fn send(&mut self, slot: u32, addr: *const u8, len: u32) -> io::Result<()> {
        let entry = opcode::Send::new(types::Fixed(slot), addr, len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(entry, SEND, slot)
    }

    /// One linked pair: the reply, then the close of the slot.
    fn send_and_close(&mut self, slot: u32) -> io::Result<()> {
        let bytes = replies(1);
        let send = opcode::Send::new(types::Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS);
        self.push(send, SHUT, slot)?;
        self.close(slot)
    }

    #[inline]
    fn sent(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        conn.sending = false;
        while let Some(id) = self.queues.sent(conn) {
            self.bufs.give(id);
        }
        if result < 0 {
            return self.broke(slot);
        }
        if conn.has_queued() {
            conn.sending = true;
            self.ready.push(slot);
            return Ok(());
        }
        self.send_owed(slot)?;
        self.settle(slot)
    }

    /// A send failed: drop what waits to be sent, and end the receive.
    fn broke(&mut self, slot: u32) -> io::Result<()> {
        let conn = &mut self.conns[slot as usize];
        (conn.owed, conn.ended, conn.sending) = (0, true, false);
        while let Some(id) = self.queues.drain(conn) {
            self.bufs.give(id);
        }
        if conn.receiving {
            let entry = opcode::Shutdown::new(types::Fixed(slot), libc::SHUT_RDWR)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS);
            return self.push(entry, SHUT, slot);
        }
        self.settle(slot)
    }

    /// Closes an ended connection once nothing of it is in flight.
    fn settle(&mut self, slot: u32) -> io::Result<()> {
        let conn = &self.conns[slot as usize];
        if conn.ended && !conn.receiving && !conn.sending { self.close(slot) } else { Ok(()) }
    }

    /// The slot can be taken again as soon as this has run; `accepted` resets the connection.
    fn close(&mut self, slot: u32) -> io::Result<()> {
        let entry =
            opcode::Close::new(types::Fixed(slot)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry, CLOSE, slot)
    }

    /// Arms as many starved receives as there are buffers for.
    #[inline]
    fn rearm_starved(&mut self) -> io::Result<()> {
        if self.starved.is_empty() {
            return Ok(());
        }
        for _ in 0..self.bufs.in_ring() {
            let Some(slot) = self.starved.pop_front() else {
                break;
            };
            self.recv(slot)?;
        }
        Ok(())
    }
}
