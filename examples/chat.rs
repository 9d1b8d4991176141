//! Every line goes to all others: `cargo run --release --example chat [ADDR]`, then twice or more
//! `nc 127.0.0.1 7002`. Nobody waits for who does not read: he is put out, as you see with
//! `sleep 99 | nc 127.0.0.1 7002 | sleep 99` and, in another, `yes $(seq 999) | nc 127.0.0.1 7002`.

use std::{cell::RefCell, fmt::Write, future::poll_fn, pin::pin, task::Context, task::Poll};

use kio::net::{OwnedRecvHalf, OwnedSendHalf};
use kio::{JoinHandle, Result, Worker};

const MEMBERS: usize = 64;

/// The way to a member, and the task that hears him.
type Member = (OwnedSendHalf, JoinHandle<Result<()>>);
struct Room(RefCell<[Option<Member>; MEMBERS]>); // of one thread: no lock

impl kio::State for Room {
    type Args = ();
    fn init(_: kio::Core, _: &()) -> Result<Self> {
        Ok(Self(RefCell::new([const { None }; MEMBERS])))
    }
}

async fn serve(worker: Worker<Chat>) -> Result<()> {
    let addr = std::env::args().nth(1);
    let mut listener = worker.listen(addr.as_deref().unwrap_or("127.0.0.1:7002")).await?;
    println!("chat on {}", listener.local_addr()?);
    loop {
        let slot = worker.reserve(hear).await?;
        let (ear, mouth) = listener.accept().await?.into_split();
        let room = worker.state();
        let mut members = room.0.borrow_mut();
        let at = members.iter().position(Option::is_none).expect("a place for each slot");
        members[at] = Some((mouth, slot.spawn(move || hear(worker, at, ear))));
    }
}

/// Hears a member until he leaves, and passes his lines on: one a millisecond, so that they go out.
async fn hear(worker: Worker<Chat>, at: usize, mut ear: OwnedRecvHalf) -> Result<()> {
    let mut said = worker.buf().await?; // a line is at most one buffer
    while let Ok(1..) = ear.recv_idle_into(&mut said).await {
        while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
            let mut line = worker.buf().await?;
            write!(line, "{at}: ")?;
            line.put_some(&said[..=end]);
            let line = line.freeze(); // copied once, shared by all outboxes
            poll_fn(|cx| tell_others(worker, at, &line, cx)).await;
            said.consume(end + 1);
            worker.sleep(std::time::Duration::from_millis(1)).await;
        }
        said.compact();
    }
    worker.state().0.borrow_mut()[at] = None;
    Ok(())
}

fn tell_others(worker: Worker<Chat>, at: usize, line: &kio::Buf, cx: &mut Context<'_>) -> Poll<()> {
    for (other, place) in worker.state().0.borrow_mut().iter_mut().enumerate() {
        if let Some((mouth, task)) = place.as_mut().filter(|_| other != at) {
            if mouth.try_push(line.clone()).is_ok() {
                let _ = pin!(mouth.flush()).poll(cx); // begins to send, and goes on by itself
            } else {
                task.abort(); // his outbox is full
                *place = None;
            }
        }
    }
    Poll::Ready(())
}

kio::pool! {
    struct Chat;
    entry = serve, state = Room, tasks = { hear: MEMBERS }, conns = MEMBERS,
    buffers = 256 x 4 KiB,
    drain = 0 s, // a chat has no end to wait for
}

fn main() -> Result<()> {
    Chat::run(())
}
