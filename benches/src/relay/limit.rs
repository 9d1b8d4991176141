//! The yardstick: a relay whose loop is written by hand. Multishot bundle receives capped at half a
//! window, one gathered send a direction, one submit-and-wait a turn, no allocation while it relays.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{cqueue, opcode, squeue, types};
use rustix::net::SocketFlags;

use crate::Result;
use crate::bufring::{BufRing, GROUP};
use crate::ring::{self, Ring};
use crate::server::ready;
use crate::sys;

const BUFFERS: u16 = 512;
const BUFFER: u32 = 16 << 10;
/// Buffers a direction holds at most.
const WINDOW: usize = 64;
/// Sockets: two a connection, side by side.
const SLOTS: usize = 512;

const RECV: u64 = 1;
const SEND: u64 = 2;
const ACCEPT: u64 = 3;
const STOP: u64 = 4;
/// `ioprio` of a receive: multishot, bundle.
const BUNDLE: u16 = 1 << 1 | 1 << 4;

/// One direction: from this slot to its neighbour.
struct Way {
    /// Buffers received and not sent, those in flight first.
    held: VecDeque<(u16, u32)>,
    flying: usize,
    receiving: bool,
    ended: bool,
    message: Box<Message>,
}

struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; WINDOW],
}

impl Way {
    fn new() -> Self {
        // SAFETY: plain data of numbers and null pointers.
        let message = Box::new(unsafe { std::mem::zeroed() });
        Self {
            held: VecDeque::with_capacity(2 * WINDOW),
            flying: 0,
            receiving: false,
            ended: false,
            message,
        }
    }
}

struct Server<'a> {
    ring: Ring<'a>,
    bufs: BufRing,
    /// The ring's contents in order, by place, and the place of each buffer.
    order: Vec<u16>,
    place: Vec<u16>,
    tail: u16,
    ways: Vec<Way>,
    used: usize,
}

/// Relays until SIGTERM.
pub fn run(upstream: u16) -> Result<()> {
    let listener = sys::listen(0)?;
    let port = std::net::TcpListener::from(listener.try_clone()?).local_addr()?.port();
    let stop = sys::stop_fd()?;
    let mut uring = ring::build(4096)?;
    let ring = Ring::over(&mut uring)?;
    ring.submitter().register_files_sparse(SLOTS as u32)?;
    let bufs = BufRing::new(&ring, BUFFERS, BUFFER)?;
    let mut server = Server {
        ring,
        bufs,
        order: (0..BUFFERS).collect(),
        place: (0..BUFFERS).collect(),
        tail: BUFFERS,
        ways: (0..SLOTS).map(|_| Way::new()).collect(),
        used: 0,
    };
    let poll =
        |fd: i32| opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).multi(true).build();
    server.push(poll(stop.as_raw_fd()), STOP, 0)?;
    server.push(poll(listener.as_fd().as_raw_fd()), ACCEPT, 0)?;
    ready(port)?;
    loop {
        server.ring.turn(std::time::Duration::ZERO)?;
        while let Some(cqe) = server.ring.pop() {
            let slot = cqe.user_data() as u32;
            match cqe.user_data() >> 32 {
                RECV => server.received(slot, &cqe)?,
                SEND => server.sent(slot, cqe.result())?,
                ACCEPT => server.accept(&listener, upstream)?,
                _ => return Ok(()),
            }
        }
        server.bufs.publish();
    }
}

impl Server<'_> {
    fn push(&mut self, entry: squeue::Entry, kind: u64, slot: u32) -> io::Result<()> {
        let entry = entry.user_data(kind << 32 | u64::from(slot));
        // SAFETY: entries point to buffers of `bufs` and messages of `ways`, which are used anew only
        // when the send's completion is in.
        unsafe { self.ring.push(&entry) }
    }

    /// Connections are made before anything is measured: this may block.
    fn accept(&mut self, listener: &std::os::fd::OwnedFd, upstream: u16) -> io::Result<()> {
        while let Ok(client) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            let server = sys::connect(upstream, None)?;
            let slot = self.used as u32;
            self.used += 2;
            let fds = [client.as_raw_fd(), server.as_raw_fd()];
            // The table keeps the sockets; the descriptors may go.
            self.ring.submitter().register_files_update(slot, &fds)?;
            self.receive(slot)?;
            self.receive(slot + 1)?;
        }
        Ok(())
    }

    fn receive(&mut self, slot: u32) -> io::Result<()> {
        let way = &mut self.ways[slot as usize];
        if way.receiving || way.ended || way.held.len() > WINDOW / 2 {
            return Ok(());
        }
        way.receiving = true;
        let cap = (WINDOW - way.held.len()) as u32 * BUFFER;
        let mut entry = opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .ioprio(BUNDLE)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        // The crate has no cap for a bundle: `optlen`, at byte 44.
        // SAFETY: an entry is the 64 bytes of `io_uring_sqe`.
        unsafe { (&raw mut entry).cast::<u32>().add(11).write(cap) };
        self.push(entry, RECV, slot)
    }

    fn received(&mut self, slot: u32, cqe: &cqueue::Entry) -> io::Result<()> {
        let way = &mut self.ways[slot as usize];
        way.receiving = cqueue::more(cqe.flags());
        let mut left = cqe.result().max(0) as u32;
        if let Some(first) = cqueue::buffer_select(cqe.flags()) {
            let mut place = self.place[usize::from(first)];
            while left > 0 {
                let id = self.order[usize::from(place % BUFFERS)];
                let n = left.min(BUFFER);
                self.bufs.take();
                way.held.push_back((id, n));
                left -= n;
                place = place.wrapping_add(1);
            }
        }
        match cqe.result() {
            n if n > 0 => {}
            n if n == -libc::ENOBUFS => {} // 512 suffice for what is measured: others give back soon
            _ => way.ended = true,
        }
        self.send(slot)?;
        self.receive(slot)
    }

    /// Sends what a direction holds, gathered, unless a send is under way.
    fn send(&mut self, slot: u32) -> io::Result<()> {
        let way = &mut self.ways[slot as usize];
        let to = types::Fixed(slot ^ 1);
        if way.flying > 0 {
            return Ok(());
        }
        if way.held.is_empty() {
            if way.ended && !way.receiving {
                let shut = opcode::Shutdown::new(to, libc::SHUT_WR).build();
                return self.push(shut.flags(squeue::Flags::SKIP_SUCCESS), SEND, slot);
            }
            return Ok(());
        }
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        way.flying = way.held.len().min(WINDOW);
        if let (1, &(id, len)) = (way.flying, &way.held[0]) {
            let one = opcode::Send::new(to, self.bufs.addr(id), len).flags(flags).build();
            return self.push(one, SEND, slot);
        }
        let message = &mut *way.message;
        for (part, &(id, len)) in message.parts.iter_mut().zip(&way.held) {
            *part = libc::iovec { iov_base: self.bufs.addr(id).cast(), iov_len: len as usize };
        }
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = way.flying;
        let many = opcode::SendMsg::new(to, &raw const message.header).flags(flags as u32).build();
        self.push(many, SEND, slot)
    }

    fn sent(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let way = &mut self.ways[slot as usize];
        if result < 0 {
            way.ended = true;
        }
        for _ in 0..std::mem::take(&mut way.flying) {
            let Some((id, _)) = way.held.pop_front() else { break };
            self.bufs.give(id);
            self.order[usize::from(self.tail % BUFFERS)] = id;
            self.place[usize::from(id)] = self.tail;
            self.tail = self.tail.wrapping_add(1);
        }
        self.send(slot)?;
        self.receive(slot)
    }
}
