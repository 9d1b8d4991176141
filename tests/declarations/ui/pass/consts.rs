//! Numbers that only const evaluation knows, of any integer type.
#![forbid(unused)]

use std::time::Duration;

const COUNT: usize = 64;
const SIZE: u16 = 8;
const DRAIN: Duration = Duration::from_secs(3);

mod limits {
    pub const CONNS: i64 = 100;
}

kio::pool! {
    struct App;
    workers = ..={ 1 + 1 },
    entry = serve,
    tasks = { task: limits::CONNS, other: { COUNT / 2 } },
    conns = limits::CONNS,
    buffers = COUNT x SIZE KiB,
    spawn = 0,
    calls = { 2 * 2 } x { SIZE * 16 },
    stall = { SIZE } s,
    drain = DRAIN,
    stack = { 64 << 10 },
    budget = SIZE MiB,
}

async fn task() {}
async fn other() {}

async fn serve(worker: kio::Worker<App>) -> kio::Result<()> {
    drop((worker.spawn(task), worker.spawn(other)));
    Ok(())
}

fn main() {
    let _ = App::run;
}
