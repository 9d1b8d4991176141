//! What a task costs, apart from any I/O: spawning it, and waking itself and being polled again.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use kio::{Core, Result as KioResult};

use crate::Result;

/// Spawned before they may run.
const BATCH: u32 = 1024;
const BATCHES: u32 = 2000;
const WAKES: u32 = 5_000_000;

async fn nothing() {}

async fn wakes_itself(times: u32) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn measure(core: Core) -> KioResult<()> {
    let mut spawning = 0.0;
    for _ in 0..BATCHES {
        let began = Instant::now();
        for _ in 0..BATCH {
            drop(core.spawn(nothing)?);
        }
        spawning += began.elapsed().as_secs_f64();
        core.spawn(|| wakes_itself(2))?.await?; // behind them all: they have run
    }
    let spawn = spawning * 1e9 / f64::from(BATCH * BATCHES);
    let began = Instant::now();
    core.spawn(|| wakes_itself(WAKES))?.await?;
    let poll = began.elapsed().as_secs_f64() * 1e9 / f64::from(WAKES);
    println!("spawn of a declared task  {spawn:5.1} ns");
    println!("self-wake and poll        {poll:5.1} ns");
    core.stop();
    Ok(())
}

kio::pool! {
    struct Tasks;
    workers = 1,
    entry = measure,
    tasks = { nothing: 2048, wakes_itself: 1 },
    conns = 1,
}

/// Measures and prints.
pub fn run() -> Result<()> {
    Ok(Tasks::run()?)
}
