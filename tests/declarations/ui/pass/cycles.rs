//! What refers to its own pool, whose size depends on it: a task that spawns itself, one that reads
//! the footprint, an entry and a handler that do both.
#![forbid(unused)]

use kio::Worker;
use kio::net::TcpStream;

kio::pool! {
    struct Tasks;
    entry = serve,
    tasks = { again: 8 },
}

kio::pool! {
    struct Conns;
    listen = { "127.0.0.1:80" => handle },
}

async fn again(worker: Worker<Tasks>, times: u64) -> kio::Result<()> {
    if times < Tasks::FOOTPRINT.total() {
        let place = worker.reserve(again).await?;
        place.spawn(move || again(worker, times + 1));
        drop(worker.spawn(move || again(worker, times + 1)));
    }
    Ok(())
}

async fn serve(worker: Worker<Tasks>) -> kio::Result<()> {
    const TOTAL: u64 = Tasks::FOOTPRINT.total();
    worker.spawn(move || again(worker, TOTAL))?;
    Ok(())
}

async fn handle(worker: Worker<Conns>, mut conn: TcpStream) -> kio::Result<()> {
    let mut buf = worker.buf().await?;
    core::fmt::write(&mut buf, format_args!("{}", Conns::FOOTPRINT))?;
    conn.send(buf.freeze()).await
}

fn main() {
    let _ = (Tasks::run, Conns::run);
}
