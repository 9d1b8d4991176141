//! Relays while the ring stays dry: whatever can move, moves, and nothing else holds a buffer.

use super::*;

impl World {
    /// The one operation of that kind that the kernel has, taken out of it.
    pub(super) fn only(&mut self, opcode: Opcode) -> Sqe {
        self.pump(10);
        let i = self.kernel.iter().position(|sqe| sqe.opcode == opcode);
        self.kernel.remove(i.expect("it is armed"))
    }

    /// One turn of a relay's task, where its direction is pending.
    fn relays_on(&mut self, at: u32, to: u32) -> Intake {
        let (from, out) = (self.io.socket(at), self.io.socket(to));
        self.io.hand_on(from, to, out);
        let intake = self.io.take_in((at, from), (to, out)).expect("all is well");
        self.io.feed();
        self.pump(10);
        intake
    }

    /// A direction of a relay that found the ring dry: the poll of its receiver, in the kernel.
    fn dry(&mut self) -> (u32, u32) {
        let (at, to) = (self.connected(), self.connected());
        self.io.relay_from(at, to, 2);
        self.relays_on(at, to);
        let recv = self.only(Opcode::Recv);
        self.drain_ring();
        self.io.complete(Cqe::made(recv.user_data, -105, None, false));
        assert!(self.relays_on(at, to) == Intake::Full, "its receiver is waited for first");
        (at, to)
    }

    /// Its receiver takes bytes.
    fn ready(&mut self, at: u32, to: u32) {
        let poll = self.only(Opcode::PollAdd);
        self.io.complete(Cqe::made(poll.user_data, 4, None, false));
        assert!(self.relays_on(at, to) == Intake::Open, "then what it sends");
    }

    /// A direction that was lent a buffer, the last that a task could take: its receive, queued.
    pub(super) fn lent(&mut self) -> u32 {
        let (at, to) = self.dry();
        self.ready(at, to);
        let poll = self.only(Opcode::PollAdd);
        self.io.complete(Cqe::made(poll.user_data, 1, None, false));
        self.io.feed();
        self.take_rest();
        at
    }

    pub(super) fn only_lent(&mut self) -> Sqe {
        self.pump(10);
        let lent = |sqe: &Sqe| sqe.opcode == Opcode::Recv && !sqe.selects_buffer();
        let i = self.kernel.iter().position(lent);
        self.kernel.remove(i.expect("it is lent one"))
    }

    /// All that receives may have goes elsewhere, and stays there.
    pub(super) fn drain_ring(&mut self) {
        let other = self.connected();
        self.receive_pending(other);
        let hog = self.kernel.iter().position(|sqe| sqe.opcode == Opcode::Recv).expect("armed");
        while let Some(id) = self.take_buffer() {
            self.io.complete(Cqe::made(self.kernel[hog].user_data, 4096, Some(id), true));
            while let Some(buf) = self.io.receive(other) {
                self.held.push(buf);
            }
            self.io.feed();
        }
    }

    /// What tasks may have goes to one.
    pub(super) fn take_rest(&mut self) {
        self.writing.extend(std::iter::from_fn(|| BufMut::take(&self.io.bufs)));
    }
}

#[test]
fn a_direction_is_lent_a_buffer_when_both_its_ends_are_ready() {
    let mut world = World::new(true);
    let at = world.lent();
    let lent = world.only_lent();
    let held = world.io.bufs.count().2;
    world.io.complete(Cqe::made(lent.user_data, 7, None, false));
    world.check();
    assert_eq!(world.io.relayed(at), 7, "it is on its way at once");
    let send = world.only(Opcode::Send);
    world.io.complete(Cqe::made(send.user_data, 7, None, false));
    assert_eq!(world.io.bufs.count().2, held - 1, "and the buffer is back");
    world.end();
}

#[test]
fn a_receiver_that_takes_nothing_is_lent_nothing() {
    let mut world = World::new(true);
    let (at, _) = world.dry();
    let held = world.io.bufs.count().2;
    for _ in 0..10 {
        world.io.feed();
        world.pump(10);
    }
    assert!(!world.io.waits_for_buffer(at) && !world.io.is_starved(), "it asks for none");
    assert_eq!(world.io.bufs.count().2, held);
    assert!(world.kernel.iter().all(|sqe| sqe.opcode != Opcode::Recv || sqe.selects_buffer()));
    world.end();
}

#[test]
fn a_receiver_that_was_sent_something_meanwhile_is_asked_again() {
    let mut world = World::new(true);
    let (at, to) = world.dry();
    world.ready(at, to);
    let poll = world.only(Opcode::PollAdd);
    let out = world.io.socket(to);
    assert!(world.io.push_out(to, out, Out::Static(b"first")).is_ok());
    world.io.start_flush(to);
    world.io.complete(Cqe::made(poll.user_data, 1, None, false));
    world.io.feed();
    assert!(!world.io.waits_for_buffer(at), "its receiver may have no room any more");
    assert!(world.relays_on(at, to) == Intake::Full);
    let send = world.only(Opcode::Send);
    world.io.complete(Cqe::made(send.user_data, 5, None, false));
    assert!(world.relays_on(at, to) == Intake::Full);
    world.ready(at, to);
    world.end();
}

#[test]
fn a_ring_that_stays_dry_is_a_wait_though_all_are_lent_buffers() {
    let mut world = World::new(true);
    let at = world.lent();
    world.io.set_clock(u64::from(world.io.now_ms.get()) + 500);
    let lent = world.only_lent();
    world.io.complete(Cqe::made(lent.user_data, -11, None, false));
    world.io.feed();
    assert!(!world.io.waits_for_buffer(at), "it waits for bytes now");
    assert_eq!(world.io.longest_wait(), 500, "who holds what the ring had is looked for");
    world.held.clear();
    world.io.feed();
    assert_eq!(world.io.longest_wait(), 0);
    world.end();
}

#[test]
fn a_direction_that_was_given_up_is_lent_nothing() {
    // The cancel won, or the poll was quicker.
    for result in [-125, 1] {
        let mut world = World::new(true);
        let (at, to) = world.dry();
        world.ready(at, to);
        let poll = world.only(Opcode::PollAdd);
        world.io.give_up_intake(at);
        world.io.complete(Cqe::made(poll.user_data, result, None, false));
        assert!(!world.io.waits_for_buffer(at), "it waits in line, and takes nothing any more");
        world.end();
    }
    for result in [-125, -11] {
        let mut world = World::new(true);
        let at = world.lent();
        let lent = world.only_lent();
        world.io.give_up_intake(at);
        world.io.complete(Cqe::made(lent.user_data, result, None, false));
        world.pump(10);
        let polls = world.kernel.iter().any(|sqe| sqe.opcode == Opcode::PollAdd);
        assert!(!polls, "it waits for bytes, and takes none any more");
        world.end();
    }
}

#[test]
fn a_send_that_comes_while_a_receiver_is_waited_for_goes_out_after_that() {
    let mut world = World::new(true);
    let (_, to) = world.dry();
    let out = world.io.socket(to);
    assert!(world.io.push_out(to, out, Out::Static(b"bytes")).is_ok());
    world.io.start_flush(to);
    let poll = world.only(Opcode::PollAdd);
    assert!(!world.kernel.iter().any(|sqe| sqe.opcode == Opcode::Send));
    world.io.complete(Cqe::made(poll.user_data, 4, None, false));
    let send = world.only(Opcode::Send);
    world.io.complete(Cqe::made(send.user_data, 5, None, false));
    assert!(world.io.flushed(to, out).is_some());
    world.end();
}

#[test]
fn a_ring_is_dry_when_tasks_hold_more_than_is_kept_for_them() {
    let mut world = World::new(true);
    let (at, to) = (world.connected(), world.connected());
    world.io.relay_from(at, to, 2);
    world.relays_on(at, to);
    let recv = world.only(Opcode::Recv);
    world.take_rest();
    world.drain_ring();
    assert_eq!(world.io.bufs.count().0, 0, "all are held");
    world.io.complete(Cqe::made(recv.user_data, -105, None, false));
    assert!(world.relays_on(at, to) == Intake::Full, "or it would ask in vain, again and again");
    world.end();
}

#[test]
fn who_waits_first_after_a_while_has_not_waited_since_then() {
    let mut world = World::new(true);
    let waits = world.connected();
    world.receive_pending(waits);
    let recv = world.only(Opcode::Recv);
    world.drain_ring();
    world.io.complete(Cqe::made(recv.user_data, -105, None, false));
    world.io.feed();
    world.io.set_clock(u64::from(world.io.now_ms.get()) + 400);
    assert_eq!(world.io.longest_wait(), 400);
    world.io.close(waits);
    world.io.feed();
    world.io.set_clock(u64::from(world.io.now_ms.get()) + 10_000);
    assert_eq!(world.io.longest_wait(), 0, "nobody has waited");
    world.end();
}

#[test]
fn a_receive_from_a_stream_whose_relay_was_forgotten_waits_in_line() {
    let mut world = World::new(true);
    let (at, to) = (world.connected(), world.connected());
    world.io.relay_from(at, to, 2);
    world.receive_pending(at);
    let recv = world.only(Opcode::Recv);
    world.drain_ring();
    world.io.complete(Cqe::made(recv.user_data, -105, None, false));
    assert!(world.io.waits_for_buffer(at), "or it would ask in vain, again and again");
    world.end();
}
