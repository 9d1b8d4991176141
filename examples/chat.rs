//! Every line goes to all others: `cargo run --release --example chat [ADDR]`, then twice or more
//! `nc 127.0.0.1 7002`. Who does not read is put out, and nobody waits for him:
//! `sleep 1000 | nc 127.0.0.1 7002 | sleep 1000`, and much to say in another.

mod addr;

use core::fmt::Write;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use std::cell::RefCell;
use std::net::SocketAddr;

use kio::net::{OwnedRecvHalf, OwnedSendHalf};
use kio::{Buf, Core, JoinHandle, Result, Worker};

const MEMBERS: usize = 64;

/// A place in the room: the way to its member, and the task that hears him.
type Place = Option<(OwnedSendHalf, JoinHandle<Result<()>>)>;

/// The worker's state. One thread has it, so a `RefCell` is all the locking there is.
struct Room {
    addr: SocketAddr,
    places: RefCell<[Place; MEMBERS]>,
}

impl kio::State for Room {
    type Args = SocketAddr;

    fn init(_: Core, addr: &SocketAddr) -> Result<Self> {
        let places = RefCell::new([const { None }; MEMBERS]);
        Ok(Self { addr: *addr, places })
    }
}

async fn listen(worker: Worker<Chat>) -> Result<()> {
    let mut listener = worker.listen(worker.state().addr).await?;
    loop {
        let slot = worker.reserve(hear).await?;
        let (ear, mouth) = listener.accept().await?.into_split();
        let room = worker.state();
        let mut places = room.places.borrow_mut();
        // There are as many places as tasks, but one that was put out may still be ending.
        if let Some(at) = places.iter().position(Option::is_none) {
            let task = slot.spawn(move || hear(worker, at, ear));
            places[at] = Some((mouth, task));
        }
    }
}

/// Hears one member until he leaves, and passes on what he says.
async fn hear(worker: Worker<Chat>, at: usize, mut ear: OwnedRecvHalf) -> Result<()> {
    let heard = talk(worker, at, &mut ear).await;
    worker.state().places.borrow_mut()[at] = None;
    heard
}

async fn talk(worker: Worker<Chat>, at: usize, ear: &mut OwnedRecvHalf) -> Result<()> {
    let mut said = worker.buf().await?;
    while let Some(data) = ear.recv_idle().await? {
        said.put(&data)?; // a line is at most one buffer
        drop(data);
        while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
            let mut line = worker.buf().await?;
            write!(line, "{at}: ")?;
            line.put(&said[..=end])?;
            said.consume(end + 1);
            tell_others(worker, at, line.freeze()).await;
        }
        said.compact();
    }
    Ok(())
}
