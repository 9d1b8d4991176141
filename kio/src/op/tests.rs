//! The operations against a kernel made of random choices: whatever completes in whatever order,
//! buffers are conserved, every slot ends free, and what is outstanding stays below the bound.

use core::cell::Cell;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::buf::{Buf, BufMut, Header, StoreMemory};
use crate::error::Held;
use crate::ring::{Cqe, Features, Opcode, Sqe};
use crate::task::{Part, Tasks, WaitNode};

#[cfg(feature = "tls")]
mod records;

const SOCKETS: usize = 4;
const BUFFERS: usize = 8;
const OUTBOX: usize = 3;
const SIZE: usize = 4096;

/// A worker's operations with a kernel in the test's hands.
struct World {
    io: &'static Io,
    /// What the kernel has: submissions without a terminal completion.
    kernel: Vec<Sqe>,
    /// Entries of the buffer ring that the kernel has taken.
    ring: (Part, u16),
    /// Sockets whose handle the test holds, and buffers it holds.
    open: Vec<u32>,
    held: Vec<Buf>,
    writing: Vec<BufMut>,
    listener: u8,
    /// Descriptors in the table, as the kernel sees it.
    installed: [bool; SOCKETS],
    most: usize,
}

fn table<T>(make: impl Fn() -> T, n: usize) -> &'static [T] {
    Box::leak((0..n).map(|_| make()).collect::<Vec<_>>().into_boxed_slice())
}

impl World {
    fn new(recv_cap: bool) -> Self {
        let tasks: &'static Tasks = Box::leak(Box::new(Tasks::new()));
        tasks.owner.claim();
        let io: &'static Io = Box::leak(Box::new(Io::new()));
        let ring = Part::leak(4096);
        io.bufs.set_up(
            tasks,
            &StoreMemory {
                headers: table(Header::new, BUFFERS),
                buffers: Part::leak(BUFFERS * SIZE),
                size: SIZE as u32,
                ring,
                ring_entries: BUFFERS as u16,
                depth: 4,
                deepest: 7,
                reserve: 1,
            },
        );
        let memory = IoMemory {
            slots: table(Slot::new, SOCKETS * OPS_A_SOCKET as usize),
            sockets: table(Socket::new, SOCKETS),
            entries: table(OutEntry::new, SOCKETS * OUTBOX),
            entry_bufs: table(|| Cell::new(0), SOCKETS * OUTBOX),
            listeners: table(Listener::new, 2),
        };
        let features =
            Features { multishot: true, recv_cap, bundle: recv_cap, direct: true, set_len: false };
        io.set_up(tasks, memory, features, 2, OUTBOX as u16);
        io.feed();
        let null = std::fs::File::open("/dev/null").expect("/dev/null opens");
        let listener =
            io.open_listener(null.into(), &RawAddr::new(), false).expect("a free listener");
        Self {
            io,
            kernel: Vec::new(),
            ring: (ring, 0),
            open: Vec::new(),
            held: Vec::new(),
            writing: Vec::new(),
            listener,
            installed: [false; SOCKETS],
            most: 0,
        }
    }

    /// The kernel takes the next buffers of the ring for a bundle, up to so many bytes, and shortens
    /// the first one's entry to `short` bytes where that is not 0. The first, and the bytes there are.
    fn take_bundle(&mut self, bytes: usize, short: u32) -> Option<(u16, usize)> {
        if short > 0 && self.ring_holds_one() {
            let entry =
                self.ring.0.start().wrapping_add(usize::from(self.ring.1 % BUFFERS as u16) * 16);
            // SAFETY: the test's own ring; the kernel may write an entry's length, its third field.
            unsafe { entry.add(8).cast::<u32>().write(short) };
        }
        let (mut first, mut there) = (None, 0);
        while there < bytes {
            let Some((id, len)) = self.take_entry() else { break };
            first = first.or(Some(id));
            there += len as usize;
        }
        first.map(|id| (id, there.min(bytes)))
    }

    fn ring_holds_one(&self) -> bool {
        // SAFETY: as in `take_entry`.
        unsafe { self.ring.0.start().add(14).cast::<u16>().read() != self.ring.1 }
    }

    /// The kernel takes the next buffer of the ring.
    fn take_buffer(&mut self) -> Option<u16> {
        self.take_entry().map(|(id, _)| id)
    }

    fn take_entry(&mut self) -> Option<(u16, u32)> {
        let (part, head) = self.ring;
        // SAFETY: the test's own ring of 16-byte entries; the tail is in the first one's last word.
        unsafe {
            let tail = part.start().add(14).cast::<u16>().read();
            if head == tail {
                return None;
            }
            let entry = part.start().add(usize::from(head % BUFFERS as u16) * 16);
            self.ring.1 = head.wrapping_add(1);
            Some((entry.add(12).cast::<u16>().read(), entry.add(8).cast::<u32>().read()))
        }
    }

    fn pump(&mut self, n: usize) {
        for _ in 0..n {
            let Some(sqe) = self.io.next_sqe() else { break };
            self.kernel.push(sqe);
        }
        self.most = self.most.max(self.kernel.len());
    }

    /// Completes one operation of the kernel's, `how` it likes.
    fn complete(&mut self, which: usize, how: u8) {
        if self.kernel.is_empty() {
            return;
        }
        let i = which % self.kernel.len();
        let sqe = self.kernel[i];
        let at = self.io.socket_of(sqe.user_data);
        match sqe.opcode {
            Opcode::Recv => self.complete_recv(i, sqe, how),
            Opcode::AsyncCancel => {
                self.kernel.remove(i);
                let target = self.kernel.iter().position(|op| op.user_data == sqe.target());
                // Won, or lost: then the operation goes its own way.
                let won = !how.is_multiple_of(3);
                if let Some(target) = target.filter(|_| won) {
                    let op = self.kernel.remove(target);
                    // A cancelled send may have sent a part.
                    let result =
                        if op.opcode == Opcode::Send && how.is_multiple_of(2) { 1 } else { -125 };
                    self.io.complete(Cqe::made(op.user_data, result, None, false));
                }
                let result = if won { 0 } else { -2 };
                self.io.complete(Cqe::made(sqe.user_data, result, None, false));
            }
            Opcode::Accept => {
                self.kernel.remove(i);
                let result = match how % 4 {
                    0 => -103,
                    _ => 0,
                };
                if let (0, Some(at)) = (result, at) {
                    assert!(!self.installed[at], "an accept into a slot that is taken");
                    self.installed[at] = true;
                }
                self.io.complete(Cqe::made(sqe.user_data, result, None, false));
            }
            Opcode::Close => {
                self.kernel.remove(i);
                let at = at.expect("a close is a socket's");
                assert!(self.installed[at], "a close of an empty slot");
                self.installed[at] = false;
                self.io.complete(Cqe::made(sqe.user_data, 0, None, false));
            }
            Opcode::Send | Opcode::SendMsg => {
                self.kernel.remove(i);
                let result = match how % 4 {
                    0 => -104,
                    1 => 1,
                    _ if sqe.opcode == Opcode::Send => sqe.bytes() as i32,
                    _ => 5000,
                };
                self.io.complete(Cqe::made(sqe.user_data, result, None, false));
            }
            _ => {
                self.kernel.remove(i);
                self.io.complete(Cqe::made(sqe.user_data, 0, None, false));
            }
        }
    }

    fn complete_recv(&mut self, i: usize, sqe: Sqe, how: u8) {
        if !sqe.selects_buffer() {
            // Into a buffer that the socket was lent.
            self.kernel.remove(i);
            let result = match how % 5 {
                0 => sqe.bytes() as i32,
                1 => 100,
                2 => -11,
                3 => -104,
                _ => 0,
            };
            self.io.complete(Cqe::made(sqe.user_data, result, None, false));
            return;
        }
        let multishot = sqe.is_multishot();
        if sqe.is_bundle() && how >= 100 {
            let short = if how.is_multiple_of(4) { u32::from(how) + 1 } else { 0 };
            let (result, buffer) = match self.take_bundle(1 + usize::from(how) * 97, short) {
                Some((first, bytes)) => (bytes as i32, Some(first)),
                None => (-105, None),
            };
            let more = buffer.is_some() && !how.is_multiple_of(3);
            if !more {
                self.kernel.remove(i);
            }
            self.io.complete(Cqe::made(sqe.user_data, result, buffer, more));
            return;
        }
        let (result, wants_buffer, more) = match how % 8 {
            0..=2 => (100 + i32::from(how) * 13, true, multishot),
            3 => (4096, true, false),
            4 => (0, false, false),
            5 => (-104, false, false),
            // An error that brings a buffer along.
            6 => (-104, true, false),
            _ => (-105, false, false),
        };
        let buffer = if wants_buffer { self.take_buffer() } else { None };
        let (result, more) = match buffer {
            None if result > 0 => (-105, false),
            _ => (result, more),
        };
        if !more {
            self.kernel.remove(i);
        }
        self.io.complete(Cqe::made(sqe.user_data, result, buffer, more));
    }

    /// What a user may do.
    fn act(&mut self, what: u8, which: usize) {
        let cx = Context::from_waker(Waker::noop());
        let pick = |open: &Vec<u32>| (!open.is_empty()).then(|| open[which % open.len()]);
        match what {
            0 | 1 => {
                let mut node = pin!(WaitNode::new());
                let polled = self.io.poll_accept(self.listener, false, node.as_mut().as_ref(), &cx);
                if let Poll::Ready(Ok(Accepted::Socket(at))) = polled {
                    self.io.add_handle(at);
                    self.open.push(at);
                }
            }
            2 | 3 => {
                if let Some(at) = pick(&self.open) {
                    match self.io.receive(at) {
                        Some(buf) => self.held.push(buf),
                        None => drop(self.io.wait_received(at, self.io.socket(at), &cx)),
                    }
                }
            }
            4 => {
                if let (Some(at), Some(buf)) = (pick(&self.open), self.held.pop())
                    && let Err(Out::Buf(back)) =
                        self.io.push_out(at, self.io.socket(at), Out::Buf(buf))
                {
                    self.held.push(back);
                }
            }
            5 => {
                if let Some(at) = pick(&self.open) {
                    let _ = self.io.push_out(at, self.io.socket(at), Out::Static(b"static bytes"));
                    self.io.start_flush(at);
                }
            }
            6 => {
                if let (Some(at), Some(mut buf)) = (pick(&self.open), BufMut::take(&self.io.bufs)) {
                    let _ = buf.put(&[7; 300]);
                    if let Err(buf) = self.io.push_joinable(at, buf) {
                        self.writing.push(buf);
                    }
                    self.io.join_out(at, &[8; 200]);
                    self.io.start_flush(at);
                }
            }
            7 => {
                if !self.held.is_empty() {
                    let buf = self.held.swap_remove(which % self.held.len());
                    let half = buf.slice(buf.len() / 2..);
                    drop(buf);
                    self.held.push(half);
                }
            }
            8 => {
                if !self.held.is_empty() {
                    drop(self.held.swap_remove(which % self.held.len()));
                }
            }
            9 => {
                if !self.open.is_empty() {
                    let at = self.open.swap_remove(which % self.open.len());
                    self.io.drop_handle(at, true);
                }
            }
            10 => {
                if let Some(at) = pick(&self.open) {
                    self.io.cut(at);
                }
            }
            11 => {
                if let Some(at) = pick(&self.open) {
                    let _ = self.io.poll_shutdown(at, &cx);
                }
            }
            12 => {
                let now = self.io.now_ms.get() + 100;
                self.io.now_ms.set(now);
                self.io.reset_stalled(50, self.most.is_multiple_of(2));
            }
            13 => {
                // A completion of nothing: of a generation long gone, with a buffer.
                let id = self.take_buffer();
                self.io.complete(Cqe::made(1 << 56 | 77, 10, id, false));
            }
            14 => {
                // A bundle of an operation long gone.
                if let Some((first, bytes)) = self.take_bundle(1 + which * 200, 0) {
                    self.io.complete(Cqe::made(1 << 56 | 77, bytes as i32, Some(first), true));
                }
            }
            15 => {
                if let (Some(from), Some(&to)) = (pick(&self.open), self.open.last()) {
                    self.relay(from, to);
                }
            }
            16 => {
                if let Some(at) = pick(&self.open) {
                    self.io.give_up_intake(at);
                    self.io.relay_over(at);
                }
            }
            _ => {
                self.writing.pop();
            }
        }
    }

    /// One poll of a relay's direction.
    fn relay(&self, at: u32, to_at: u32) {
        let cx = Context::from_waker(Waker::noop());
        let (from, to) = (self.io.socket(at), self.io.socket(to_at));
        self.io.relay_from(at, to_at, 2);
        if to.writable().is_ok() {
            self.io.hand_on(from, to_at, to);
            if self.io.take_in((at, from), (to_at, to)).is_ok() {
                from.on_received(self.io, &cx);
                to.on_sent(self.io, &cx);
            }
        }
    }

    fn check(&self) {
        let (free, in_ring, held) = self.io.bufs.count();
        assert_eq!(free + in_ring + held, BUFFERS as u32);
        let counted = self.io.bufs.headers().iter().filter(|h| h.holders.get() > 0).count();
        assert_eq!(counted as u32, held, "buffers with holders");
        let ops = self.kernel.iter().filter(|sqe| sqe.opcode != Opcode::AsyncCancel).count();
        assert_eq!(ops as u32, self.io.in_flight(), "operations in the kernel");
        let bound = SOCKETS * OPS_A_SOCKET as usize + CANCELS_MAX as usize;
        assert!(self.most <= bound, "{} outstanding of {bound}", self.most);
    }

    /// Ends everything; the kernel completes what it has, cancels first.
    fn end(&mut self) {
        for at in self.open.drain(..) {
            self.io.drop_handle(at, true);
        }
        self.held.clear();
        self.writing.clear();
        self.io.close_all();
        for _ in 0..200 {
            self.pump(100);
            match self.kernel.iter().position(|sqe| sqe.opcode == Opcode::AsyncCancel) {
                Some(cancel) => self.complete(cancel, 1),
                None if self.kernel.is_empty() => break,
                // A cancel is lost to a completion that is on its way.
                None => self.complete(0, 4),
            }
            self.io.feed();
            self.check();
        }
        let mut held = Held::default();
        self.io.held(&mut held);
        assert!(held.is_empty(), "still held: {held:?}");
        assert_eq!(self.installed, [false; SOCKETS], "descriptors leaked");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_completes_nothing_is_lost(
        recv_cap: bool,
        steps in prop::collection::vec((0u8..4, 0u8..18, any::<u8>(), 0usize..64), 1..200),
    ) {
        let mut world = World::new(recv_cap);
        for (step, what, how, which) in steps {
            match step {
                0 => world.pump(which % 5),
                1 => world.complete(which, how),
                _ => world.act(what, which),
            }
            world.io.feed();
            world.io.turn.set(world.io.turn.get() + 1);
            world.check();
        }
        world.end();
    }
}

#[test]
fn small_segments_share_one_buffer() {
    let mut world = World::new(true);
    let at = world.connected();
    world.receive_pending(at);
    for _ in 0..100 {
        let recv = world.kernel.iter().find(|sqe| sqe.opcode == Opcode::Recv).copied();
        let recv = recv.expect("a receive is armed");
        let id = world.take_buffer();
        assert!(id.is_some(), "the ring is refilled");
        world.io.complete(Cqe::made(recv.user_data, 1, id, true));
        world.io.feed();
    }
    assert_eq!(world.io.bufs.count().2, 1, "100 segments of one byte hold one buffer");
    world.end();
}

#[test]
fn a_socket_that_found_no_buffer_receives_again_when_one_comes_back() {
    let mut world = World::new(true);
    let at = world.connected();
    world.receive_pending(at);
    let taken: Vec<_> = std::iter::from_fn(|| BufMut::take(&world.io.bufs)).collect();
    let recv = world.kernel.pop().expect("a receive is armed");
    while let Some(id) = world.take_buffer() {
        // The ring's buffers go out too, and stay held.
        world.io.complete(Cqe::made(recv.user_data, 4096, Some(id), true));
    }
    world.io.complete(Cqe::made(recv.user_data, -105, None, false));
    world.io.feed();
    assert!(!world.io.is_starved(), "it has data to take first");
    let cx = Context::from_waker(Waker::noop());
    while let Some(buf) = world.io.receive(at) {
        world.held.push(buf);
    }
    assert!(world.io.wait_received(at, world.io.socket(at), &cx).is_pending());
    world.pump(10);
    let recv = world.kernel.pop().expect("armed again once all is taken");
    world.io.complete(Cqe::made(recv.user_data, -105, None, false));
    world.io.feed();
    assert!(world.io.is_starved());
    world.pump(10);
    assert!(world.kernel.is_empty(), "nothing is armed while there is no buffer");
    drop(taken);
    world.io.feed();
    world.pump(10);
    assert_eq!(world.kernel.len(), 1, "armed again");
    assert!(!world.io.is_starved());
    world.end();
}

#[test]
fn a_late_accept_is_closed() {
    let mut world = World::new(true);
    world.act(0, 0);
    world.pump(10);
    let accept = world.kernel.pop().expect("an accept is armed");
    world.io.close_listener(world.listener);
    world.installed[0] = true;
    world.io.complete(Cqe::made(accept.user_data, 0, None, false));
    world.pump(10);
    assert!(world.kernel.iter().any(|sqe| sqe.opcode == Opcode::Close));
    world.end();
}

#[test]
fn completions_of_what_is_not_there_touch_nothing() {
    let mut world = World::new(true);
    let at = world.connected();
    world.receive_pending(at);
    let recv = world.kernel.iter().find(|sqe| sqe.opcode == Opcode::Recv).copied();
    let recv = recv.expect("a receive is armed").user_data;
    let held = BufMut::take(&world.io.bufs).expect("one is free");
    let before = world.io.bufs.count();
    let others = [0, 1 << 32, 0xff_ffff << 32, 0xffff_ffff, u64::MAX].map(|bits| recv ^ bits);
    let named = others.into_iter().filter(|data| *data != recv).chain([0, u64::MAX]);
    for user_data in named {
        for id in [None, Some(held.index() as u16), Some(BUFFERS as u16), Some(u16::MAX)] {
            for (result, more) in [(0, false), (1, true), (4096, false), (-105, false)] {
                world.io.complete(Cqe::made(user_data, result, id, more));
            }
        }
    }
    // A receive that is there, with a buffer that is not in the ring.
    world.io.complete(Cqe::made(recv, 7, Some(held.index() as u16), true));
    world.io.complete(Cqe::made(recv, 7, Some(u16::MAX), true));
    assert_eq!(world.io.bufs.count(), before);
    assert!(!world.io.has_received(at));
    // And a stale completion that brings one which is: taken back.
    let id = world.take_buffer();
    assert!(id.is_some(), "the ring is filled");
    world.io.complete(Cqe::made(0, 7, id, false));
    world.io.feed();
    assert_eq!(world.io.bufs.count(), before);
    drop(held);
    world.end();
}

impl World {
    /// A connection, as accepted.
    fn connected(&mut self) -> u32 {
        self.act(0, 0);
        self.pump(10);
        self.complete(0, 1);
        self.act(0, 0);
        let at = *self.open.last().expect("accepted");
        self.pump(10);
        self.kernel.retain(|sqe| sqe.opcode == Opcode::Accept);
        while let Some(i) = self.kernel.iter().position(|sqe| sqe.opcode == Opcode::Accept) {
            self.complete(i, 0);
        }
        at
    }

    fn receive_pending(&mut self, at: u32) {
        let cx = Context::from_waker(Waker::noop());
        assert!(self.io.receive(at).is_none());
        assert!(self.io.wait_received(at, self.io.socket(at), &cx).is_pending());
        self.pump(10);
    }
}

#[test]
fn a_bundle_gives_every_buffer_and_every_byte() {
    let mut world = World::new(true);
    let at = world.connected();
    world.relay(at, at);
    world.pump(10);
    let recv = world.kernel.iter().find(|sqe| sqe.opcode == Opcode::Recv).copied();
    let recv = recv.expect("a receive is armed");
    assert!(recv.is_bundle(), "relayed from, a socket receives bundles");
    world.io.relay_over(at);
    // The first entry was shortened for somebody else.
    let (first, bytes) = world.take_bundle(100 + SIZE + 7, 100).expect("the ring is filled");
    assert_eq!(bytes, 100 + SIZE + 7);
    world.io.complete(Cqe::made(recv.user_data, bytes as i32, Some(first), true));
    world.check();
    assert_eq!(world.io.bufs.count().2, 3, "100 bytes, a full buffer, and 7 bytes");
    let mut lens = Vec::new();
    while let Some(buf) = world.io.receive(at) {
        lens.push(buf.len());
    }
    assert_eq!(lens, [100, SIZE, 7]);
    world.end();
}

#[test]
fn a_relay_of_one_who_waits_in_line_keeps_its_window() {
    let mut world = World::new(true);
    let at = world.connected();
    world.receive_pending(at);
    let recv = world.kernel.pop().expect("a receive is armed");
    world.io.complete(Cqe::made(recv.user_data, -105, None, false));
    assert!(world.io.waits_for_buffer(at));
    world.relay(at, at);
    world.io.feed();
    world.pump(10);
    let recv = world.kernel.last().expect("it is fed");
    assert_eq!(recv.cap() as usize, 2 * SIZE);
    world.end();
}

#[test]
fn a_bundle_that_claims_more_than_the_ring_held_fails_its_socket_alone() {
    let mut world = World::new(true);
    let at = world.connected();
    world.relay(at, at);
    world.pump(10);
    let recv = world.kernel.iter().find(|sqe| sqe.opcode == Opcode::Recv).copied();
    let recv = recv.expect("a receive is armed");
    world.io.relay_over(at);
    let first = world.take_buffer().expect("the ring is filled");
    while world.take_buffer().is_some() {}
    world.io.complete(Cqe::made(recv.user_data, 100 * SIZE as i32, Some(first), true));
    world.check();
    while world.io.receive(at).is_some() {}
    let cx = Context::from_waker(Waker::noop());
    let told = world.io.wait_received(at, world.io.socket(at), &cx);
    assert!(matches!(told, Poll::Ready(Err(_))), "nothing may follow a gap");
    world.end();
}

mod dry;
mod wakers;
