//! A client's hold on a server: got in its turn, and given back when dropped.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use kio::{Core, StateRef};

use crate::state::{Choice, State, Tried};

/// Why a client gets no server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoServer {
    Down,
    Late,
}

/// A connection that a server has room for. Dropped, it gives the room back.
pub struct Lease {
    state: StateRef<State>,
    pub place: usize,
    pub addr: SocketAddr,
}

impl Lease {
    /// A server for a client of a listener; waits while all that are up are full.
    pub async fn get(
        core: Core,
        state: StateRef<State>,
        listener: usize,
        client: IpAddr,
        tried: &Tried,
    ) -> Result<Self, NoServer> {
        let deadline = core.now() + state.group(listener).wait;
        let mut waits = None;
        loop {
            // Who comes while others wait goes behind them.
            if waits.is_some() || state.waiting(listener).get() == 0 {
                match state.choose(listener, client, tried) {
                    Choice::Server(place) => {
                        drop(waits);
                        return Self::take(state, place).ok_or(NoServer::Down);
                    }
                    Choice::Nothing => return Err(NoServer::Down),
                    Choice::Full => {}
                }
            }
            if waits.is_none() {
                state.count(|numbers| numbers.waits += 1);
            }
            let _waits = waits.get_or_insert_with(|| Waits::new(state.waiting(listener)));
            state.room().reset();
            let woken = core.deadline(deadline, state.room().wait()).await;
            if woken.is_err() {
                return Err(NoServer::Late);
            }
        }
    }

    fn take(state: StateRef<State>, place: usize) -> Option<Self> {
        let addr = state.hold(place)?;
        Some(Self { state, place, addr })
    }

    /// It could not be reached.
    pub fn failed(&self) {
        self.state.numbers_of(self.place, |numbers| numbers.failures += 1);
    }

    /// So many bytes went there and came back.
    pub fn carried(&self, to: u64, from: u64) {
        self.state.count(|numbers| {
            numbers.bytes_to += to;
            numbers.bytes_from += from;
        });
        self.state.numbers_of(self.place, |numbers| {
            numbers.bytes_to += to;
            numbers.bytes_from += from;
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.state.let_go(self.place);
    }
}

/// One who waits, counted.
struct Waits<'a>(&'a Cell<u32>);

impl<'a> Waits<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
