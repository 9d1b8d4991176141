//! Records against the same made-up kernel: what is received keeps its order, what is given up dangles
//! nothing, and no slot but the three of a socket is ever used.

use super::super::record::pretend::{received, sent};
use super::*;
use crate::error::Error;
use crate::op::Arrived;
use crate::ring::ktls::{Cipher, Keys, Version};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const EIO: i32 = -5;
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

fn keys() -> Keys<'static> {
    let (version, cipher) = (Version::Tls13, Cipher::Aes128Gcm);
    Keys { version, cipher, key: &[7; 16], iv: &[7; 12], sequence: 0 }
}

impl World {
    /// A connection whose records the kernel seals and opens.
    pub(super) fn sealed(&mut self) -> u32 {
        let at = self.connected();
        self.io.pretend_sealed(at);
        at
    }

    pub(super) fn arrived(&self, at: u32) -> Poll<crate::Result<Arrived>> {
        self.io.wait_arrived(at, self.io.socket(at), &Context::from_waker(Waker::noop()))
    }

    /// The operation of that kind that the kernel has of a socket, taken out of it.
    fn taken(&mut self, at: u32, opcode: Opcode) -> Option<Sqe> {
        self.pump(10);
        let of = |sqe: &Sqe| self.io.socket_of(sqe.user_data) == Some(at as usize);
        let i = self.kernel.iter().position(|sqe| sqe.opcode == opcode && of(sqe))?;
        Some(self.kernel.remove(i))
    }

    /// The kernel has a control record first: it ends the receive, and the record's is armed.
    pub(super) fn record_first(&mut self, at: u32) -> Sqe {
        let recv = self.taken(at, Opcode::Recv).expect("a receive is armed");
        self.io.complete(Cqe::made(recv.user_data, EIO, None, false));
        self.taken(at, Opcode::RecvMsg).expect("the record is received")
    }

    fn part(&mut self, sqe: Sqe, kind: u8, bytes: i32, last: bool) {
        received(&sqe, kind, last);
        let id = self.take_buffer();
        self.io.complete(Cqe::made(sqe.user_data, bytes, id, false));
        self.io.feed();
    }

    /// Completes the record's receive or send like the kernel might.
    fn complete_record(&mut self, i: usize, how: u8) {
        let sqe = self.kernel.remove(i);
        if let Some((_, bytes)) = sent(&sqe) {
            let result = match how % 8 {
                0 => -104,
                1 => 1,
                _ => bytes.len() as i32,
            };
            self.io.complete(Cqe::made(sqe.user_data, result, None, false));
            return;
        }
        let (result, kind, last) = match how % 8 {
            0 => (-104, 0, false),
            1 => (-105, 0, false),
            2 => (0, 0, false),           // the end
            3 => (0, HANDSHAKE, true),    // an empty record
            4 => (100, HANDSHAKE, false), // a part
            5 => (30, 23, true),          // data after all
            _ => (2, ALERT, true),
        };
        if kind != 0 {
            received(&sqe, kind, last);
        }
        let id = if result > 0 || how >= 128 { self.take_buffer() } else { None };
        let result = if id.is_none() && result > 0 { -105 } else { result };
        self.io.complete(Cqe::made(sqe.user_data, result, id, false));
    }

    /// As [`World::complete`], with records.
    fn complete_sealed(&mut self, which: usize, how: u8) {
        if self.kernel.is_empty() {
            return;
        }
        let i = which % self.kernel.len();
        let sqe = self.kernel[i];
        match sqe.opcode {
            Opcode::RecvMsg => self.complete_record(i, how),
            Opcode::SendMsg if sent(&sqe).is_some() => self.complete_record(i, how),
            Opcode::Recv if how >= 160 => {
                self.kernel.remove(i);
                self.io.complete(Cqe::made(sqe.user_data, EIO, None, false));
            }
            _ => self.complete(which, how),
        }
    }

    fn act_sealed(&mut self, what: u8, which: usize) {
        let cx = Context::from_waker(Waker::noop());
        let Some(at) = (!self.open.is_empty()).then(|| self.open[which % self.open.len()]) else {
            return;
        };
        match what {
            0 => self.io.pretend_sealed(at),
            1 => {
                let then = which.is_multiple_of(2).then(keys);
                let _ = self.io.queue_record(at, HANDSHAKE, &KEY_UPDATE, then.as_ref());
            }
            2 => drop(self.io.take_record(at)),
            3 => drop(self.arrived(at)),
            4 => drop(self.io.wait_exact(at, self.io.socket(at), 5, &cx)),
            5 => drop(self.io.end_records(at)),
            6 => drop(self.io.poll_ended(at, &cx)),
            _ => drop(self.io.poll_records_sent(at, &cx)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_records_come_and_go_nothing_is_lost(
        recv_cap: bool,
        steps in prop::collection::vec((0u8..6, 0u8..15, any::<u8>(), 0usize..64), 1..200),
    ) {
        let mut world = World::new(recv_cap);
        for (step, what, how, which) in steps {
            match step {
                0 => world.pump(which % 5),
                1 | 2 => world.complete_sealed(which, how),
                3 | 4 => world.act_sealed(what % 8, which),
                _ => world.act(what, which),
            }
            world.io.feed();
            world.io.turn.set(world.io.turn.get() + 1);
            world.check();
        }
        world.end();
        for at in 0..SOCKETS as u32 {
            prop_assert!(!world.io.holds_keys(at), "keys are left behind");
        }
    }
}

#[test]
fn data_before_a_record_is_taken_first_and_nothing_is_armed_until_both_are() {
    let mut world = World::new(true);
    let at = world.sealed();
    world.receive_pending(at);
    let recv = world.taken(at, Opcode::Recv).expect("a receive is armed");
    let id = world.take_buffer();
    world.io.complete(Cqe::made(recv.user_data, 10, id, true));
    world.kernel.push(recv);
    let record = world.record_first(at);
    world.part(record, HANDSHAKE, 5, true);
    assert_eq!(world.arrived(at), Poll::Ready(Ok(Arrived::Data)));
    assert_eq!(world.io.receive(at).map(|buf| buf.len()), Some(10));
    assert_eq!(world.arrived(at), Poll::Ready(Ok(Arrived::Record)));
    assert_eq!(world.arrived(at), Poll::Ready(Ok(Arrived::Record)), "until it is taken");
    assert!(world.taken(at, Opcode::Recv).is_none());
    let taken = world.io.take_record(at).expect("held");
    assert_eq!((taken.kind, taken.bytes().len(), taken.end), (HANDSHAKE, 5, true));
    assert!(world.taken(at, Opcode::Recv).is_none(), "keys may be set before the next wait");
    assert!(world.arrived(at).is_pending());
    let recv = world.taken(at, Opcode::Recv).expect("receiving goes on");
    world.kernel.push(recv);
    drop(taken);
    world.end();
}

#[test]
fn a_record_in_parts_is_received_one_part_at_a_time() {
    let mut world = World::new(true);
    let at = world.sealed();
    world.receive_pending(at);
    let mut record = world.record_first(at);
    for i in 0..4 {
        world.part(record, HANDSHAKE, 4096, i == 3);
        assert!(world.taken(at, Opcode::RecvMsg).is_none(), "one buffer at a time");
        let part = world.io.take_record(at).expect("held");
        assert_eq!((part.bytes().len(), part.end), (4096, i == 3));
        assert!(world.arrived(at).is_pending());
        if i < 3 {
            record = world.taken(at, Opcode::RecvMsg).expect("the rest is received");
        }
    }
    let recv = world.taken(at, Opcode::Recv).expect("receiving goes on");
    world.kernel.push(recv);
    world.end();
}

#[test]
fn a_record_that_never_ends_is_an_error() {
    for bytes in [4096, 0] {
        let mut world = World::new(true);
        let at = world.sealed();
        world.receive_pending(at);
        let mut record = world.record_first(at);
        for parts in 1.. {
            assert!(parts < 7, "no bound");
            world.part(record, HANDSHAKE, bytes, false);
            if world.io.take_record(at).is_none() {
                break;
            }
            assert!(world.arrived(at).is_pending());
            record = world.taken(at, Opcode::RecvMsg).expect("the rest is received");
        }
        let error = Error::os("receive", libc::EMSGSIZE);
        assert_eq!(world.arrived(at), Poll::Ready(Err(error)));
        assert!(world.taken(at, Opcode::RecvMsg).is_none());
        world.end();
    }
}

#[test]
fn a_record_that_finds_no_buffer_waits_for_one() {
    let mut world = World::new(true);
    let at = world.sealed();
    world.receive_pending(at);
    let record = world.record_first(at);
    world.io.complete(Cqe::made(record.user_data, -105, None, false));
    assert!(world.io.is_starved());
    world.io.feed();
    let record = world.taken(at, Opcode::RecvMsg).expect("asked again, for the record");
    world.part(record, ALERT, 2, true);
    assert_eq!(world.arrived(at), Poll::Ready(Ok(Arrived::Record)));
    world.end();
}

#[test]
fn an_error_or_the_end_in_place_of_a_record_is_told() {
    for (result, told) in [
        (0, Ok(Arrived::End)),
        (-104, Err(Error::os("receive", 104))),
        // Again no data, and no record either.
        (EIO, Err(Error::os("receive", 5))),
    ] {
        let mut world = World::new(true);
        let at = world.sealed();
        world.receive_pending(at);
        let record = world.record_first(at);
        world.io.complete(Cqe::made(record.user_data, result, None, false));
        assert_eq!(world.arrived(at), Poll::Ready(told));
        assert!(world.taken(at, Opcode::Recv).is_none());
        world.end();
    }
}

#[test]
fn without_keys_eio_is_an_error() {
    let mut world = World::new(true);
    let at = world.connected();
    world.receive_pending(at);
    let recv = world.taken(at, Opcode::Recv).expect("a receive is armed");
    world.io.complete(Cqe::made(recv.user_data, EIO, None, false));
    assert!(world.taken(at, Opcode::RecvMsg).is_none());
    assert_eq!(world.arrived(at), Poll::Ready(Err(Error::os("receive", 5))));
    world.end();
}

#[test]
fn a_connection_dropped_at_any_point_of_a_record_leaves_nothing() {
    for point in 0..5 {
        let mut world = World::new(true);
        let at = world.sealed();
        world.receive_pending(at);
        if point > 0 {
            let record = world.record_first(at);
            match point {
                1 => world.kernel.push(record), // in the kernel
                2 => world.part(record, HANDSHAKE, 5, true),
                3 => {
                    world.part(record, HANDSHAKE, 4096, false);
                    drop(world.io.take_record(at));
                    assert!(world.arrived(at).is_pending()); // queued
                }
                _ => {
                    // Completes after it was dropped, with a buffer.
                    let open = std::mem::take(&mut world.open);
                    for at in open {
                        world.io.drop_handle(at, true);
                    }
                    world.part(record, HANDSHAKE, 5, true);
                    assert!(world.io.take_record(at).is_none());
                }
            }
        }
        world.end();
    }
}

#[test]
fn a_stale_completion_is_no_record() {
    let mut world = World::new(true);
    let at = world.sealed();
    world.receive_pending(at);
    let record = world.record_first(at);
    world.part(record, HANDSHAKE, 5, true);
    let before = world.io.bufs.count();
    let id = world.take_buffer();
    world.io.complete(Cqe::made(record.user_data, 5, id, false));
    world.io.feed();
    assert_eq!(world.io.bufs.count(), before);
    assert_eq!(world.io.take_record(at).map(|taken| taken.bytes().len()), Some(5));
    assert!(world.io.take_record(at).is_none());
    world.end();
}

#[test]
fn a_record_goes_before_data_that_is_not_in_flight_and_close_notify_behind_all() {
    let mut world = World::new(true);
    let at = world.sealed();
    let push = |world: &World| {
        let pushed = world.io.push_out(at, world.io.socket(at), Out::Static(b"data"));
        assert!(pushed.is_ok());
        world.io.start_flush(at);
    };
    push(&world);
    let first = world.taken(at, Opcode::Send).expect("in flight");
    push(&world);
    assert_eq!(world.io.queue_record(at, HANDSHAKE, &KEY_UPDATE, Some(&keys())), Ok(true));
    assert_eq!(world.io.queue_record(at, HANDSHAKE, &KEY_UPDATE, None), Ok(false));
    assert!(world.io.end_records(at).is_ok());
    assert!(world.io.holds_keys(at));
    assert!(world.taken(at, Opcode::SendMsg).is_none(), "one send at a time");
    // Short: the rest goes behind the record.
    world.io.complete(Cqe::made(first.user_data, 3, None, false));
    let record = world.taken(at, Opcode::SendMsg).expect("the record is next");
    assert_eq!(sent(&record), Some((HANDSHAKE, &KEY_UPDATE[..])));
    world.io.complete(Cqe::made(record.user_data, 5, None, false));
    assert!(!world.io.holds_keys(at), "set, and wiped");
    let rest = world.taken(at, Opcode::SendMsg).expect("two entries, gathered");
    assert_eq!(sent(&rest), None);
    world.io.complete(Cqe::made(rest.user_data, 5, None, false));
    let notify = world.taken(at, Opcode::SendMsg).expect("then close_notify");
    assert_eq!(sent(&notify), Some((ALERT, &[1, 0][..])));
    assert!(world.taken(at, Opcode::Shutdown).is_none());
    world.io.complete(Cqe::made(notify.user_data, 2, None, false));
    let shutdown = world.taken(at, Opcode::Shutdown).expect("then the end");
    let cx = Context::from_waker(Waker::noop());
    assert!(world.io.poll_ended(at, &cx).is_pending());
    world.io.complete(Cqe::made(shutdown.user_data, 0, None, false));
    assert_eq!(world.io.poll_ended(at, &cx), Poll::Ready(Ok(())));
    world.end();
}

#[test]
fn a_record_that_failed_or_went_out_in_part_ends_the_sends() {
    for (result, errno) in [(-32, 32), (-125, 125), (1, 5)] {
        let mut world = World::new(true);
        let at = world.sealed();
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(world.io.queue_record(at, HANDSHAKE, &KEY_UPDATE, Some(&keys())), Ok(true));
        let pushed = world.io.push_out(at, world.io.socket(at), Out::Static(b"data"));
        assert!(pushed.is_ok());
        assert!(world.io.poll_records_sent(at, &cx).is_pending());
        let record = world.taken(at, Opcode::SendMsg).expect("the record is sent");
        world.io.complete(Cqe::made(record.user_data, result, None, false));
        let failed = Err(Error::os("send", errno));
        assert_eq!(world.io.poll_records_sent(at, &cx), Poll::Ready(failed));
        assert_eq!(world.io.queue_record(at, ALERT, &[2, 20], None).err(), failed.err());
        assert!(!world.io.holds_keys(at));
        assert!(world.taken(at, Opcode::Send).is_none());
        world.end();
    }
}

#[test]
fn a_cut_takes_the_record_back_that_did_not_reach_the_kernel() {
    for reaches in [false, true] {
        let mut world = World::new(true);
        let at = world.sealed();
        assert_eq!(world.io.queue_record(at, HANDSHAKE, &KEY_UPDATE, Some(&keys())), Ok(true));
        if reaches {
            world.pump(10);
        }
        world.io.cut(at);
        assert_eq!(world.io.holds_keys(at), reaches, "until its send has ended");
        world.pump(10);
        let sends = world.kernel.iter().filter(|sqe| sent(sqe).is_some()).count();
        assert_eq!(sends, usize::from(reaches));
        world.end();
        assert!(!world.io.holds_keys(at));
    }
}

#[test]
fn an_exact_receive_keeps_its_bound_wherever_it_waits() {
    let mut world = World::new(true);
    let at = world.connected();
    let cx = Context::from_waker(Waker::noop());
    let socket = world.io.socket(at);
    assert!(world.io.wait_exact(at, socket, 5, &cx).is_pending());
    let recv = world.taken(at, Opcode::Recv).expect("armed");
    assert_eq!((recv.is_multishot(), recv.bytes()), (false, 5));
    // Given up, asked for less, starved: the same bound, or what is asked then.
    world.io.complete(Cqe::made(recv.user_data, -105, None, false));
    world.io.feed();
    let recv = world.taken(at, Opcode::Recv).expect("armed again");
    assert_eq!((recv.is_multishot(), recv.bytes()), (false, 5));
    assert!(!world.io.has_read_ahead(at));
    let id = world.take_buffer();
    world.io.complete(Cqe::made(recv.user_data, 5, id, false));
    assert!(world.io.has_read_ahead(at));
    drop(world.io.receive(at));
    // One without a bound is given up first.
    world.receive_pending(at);
    let free = world.taken(at, Opcode::Recv).expect("armed");
    assert!(free.is_multishot() && world.io.has_read_ahead(at));
    assert!(world.io.wait_exact(at, socket, 3, &cx).is_pending());
    world.kernel.push(free);
    world.pump(10);
    let cancel = world.kernel.iter().position(|sqe| sqe.opcode == Opcode::AsyncCancel);
    world.complete(cancel.expect("cancelled"), 1);
    assert!(world.io.wait_exact(at, socket, 3, &cx).is_pending());
    let recv = world.taken(at, Opcode::Recv).expect("armed");
    assert_eq!((recv.is_multishot(), recv.bytes()), (false, 3));
    world.kernel.push(recv);
    world.end();
}
