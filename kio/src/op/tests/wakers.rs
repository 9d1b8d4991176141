//! Wakers of the user's, which do at once whatever safe code may: give up, receive, drop the
//! connection. Each is called in the middle of something.

use std::sync::Arc;
use std::task::Wake;
use std::thread_local;

use super::super::socket::flag;
use super::*;
use crate::buf::Take;

thread_local! {
    static DOES: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

struct Does;

impl Wake for Does {
    fn wake(self: Arc<Self>) {
        if let Some(does) = DOES.take() {
            does();
        }
    }
}

/// A waker that does that, once.
fn doing(does: impl FnOnce() + 'static) -> Waker {
    DOES.set(Some(Box::new(does)));
    Arc::new(Does).into()
}

impl World {
    /// The test's handle of a connection, to be dropped elsewhere.
    fn hand_out(&mut self, at: u32) -> impl FnOnce() + 'static {
        self.open.retain(|open| *open != at);
        let io = self.io;
        move || io.drop_handle(at, true)
    }
}

#[test]
fn a_connection_dropped_in_the_middle_of_a_bundle_leaves_no_bytes_to_the_next() {
    let mut world = World::new(true);
    let at = world.connected();
    world.relay(at, at);
    let recv = world.only(Opcode::Recv);
    assert!(recv.is_bundle());
    let dropped = world.hand_out(at);
    let waker = doing(dropped);
    world.io.socket(at).on_received(world.io, &Context::from_waker(&waker));
    let (first, bytes) = world.take_bundle(3 * SIZE, 0).expect("the ring is filled");
    world.io.complete(Cqe::made(recv.user_data, bytes as i32, Some(first), false));
    assert!(DOES.take().is_none(), "it was dropped meanwhile");
    assert!(!world.io.has_received(at), "a closed connection receives nothing");
    world.end();
}

#[test]
fn who_waits_for_a_lent_buffer_may_receive_when_it_comes_back() {
    let mut world = World::new(true);
    let at = world.lent();
    let lent = world.only_lent();
    let io = world.io;
    let waker = doing(move || {
        let cx = Context::from_waker(Waker::noop());
        let _ = io.wait_received(at, io.socket(at), &cx);
    });
    let mut wait = pin!(Take::new(&io.bufs));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    world.io.complete(Cqe::made(lent.user_data, -11, None, false));
    assert!(DOES.take().is_none(), "it waited meanwhile");
    world.check();
    world.end();
}

#[cfg(feature = "tls")]
#[test]
fn an_exact_receive_gives_back_a_buffer_that_was_lent_before() {
    let mut world = World::new(true);
    let at = world.lent();
    world.io.relay_over(at);
    let cx = Context::from_waker(Waker::noop());
    assert!(world.io.wait_exact(at, world.io.socket(at), 5, &cx).is_pending());
    world.pump(10);
    world.end();
}

#[cfg(feature = "tls")]
#[test]
fn a_connection_dropped_by_who_waits_for_a_buffer_leaves_no_record() {
    let mut world = World::new(true);
    let at = world.sealed();
    assert!(world.arrived(at).is_pending());
    let record = world.record_first(at);
    let id = world.take_buffer();
    world.drain_ring();
    world.take_rest();
    let dropped = world.hand_out(at);
    let waker = doing(dropped);
    let mut wait = pin!(Take::new(&world.io.bufs));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    crate::op::record::pretend::received(&record, 22, true);
    world.io.complete(Cqe::made(record.user_data, 0, id, false));
    assert!(DOES.take().is_none(), "it was dropped meanwhile");
    assert!(world.io.take_record(at).is_none());
    world.end();
}

#[test]
fn a_connection_dropped_by_its_reset_leaves_no_error_to_the_next() {
    let mut world = World::new(true);
    let at = world.connected();
    // As without direct descriptors: its slot is free as soon as it is closed.
    world.io.socket(at).unset(flag::INSTALLED);
    world.installed[at as usize] = false;
    world.receive_pending(at);
    let recv = world.only(Opcode::Recv);
    let id = world.take_buffer();
    world.io.complete(Cqe::made(recv.user_data, 4096, id, false));
    world.drain_ring();
    world.take_rest();
    let dropped = world.hand_out(at);
    let waker = doing(dropped);
    let mut wait = pin!(Take::new(&world.io.bufs));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    world.io.reset(at);
    assert!(DOES.take().is_none(), "it was dropped meanwhile");
    assert_eq!(world.io.socket(at).tx_error.get(), 0);
    world.end();
}
