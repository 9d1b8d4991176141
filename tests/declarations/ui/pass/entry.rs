//! A pool of every key but `listen`, under lints that look at what is generated.
#![forbid(unsafe_code, dead_code, unused)]
#![deny(missing_docs, warnings)]

use kio::net::TcpStream;

kio::pool! {
    /// Echoes.
    pub struct Echo;
    workers = ..=4,
    entry = serve,
    tasks = { echo: 1024, library::handle::<u8> as bytes: 16 },
    spawn = 8 x 1 KiB,
    calls = 8 x 512B,
    conns = 1024,
    buffers = 2048 x 16 KiB,
    depth = 128,
    reserve = 100,
    window = 2,
    outbox = 8,
    stall = 5 s,
    sq = 128,
    stack = 128KiB,
    pin = off,
    idle = spin(100us),
    blocking = 0,
    harden = on,
    allow = [],
    registered = auto,
    signals = [HUP, USR1],
    drain = 500 ms,
    on_error = failed,
    budget = 160 MiB,
    crate = ::kio,
}

async fn echo(mut conn: TcpStream) -> kio::Result<()> {
    let _ = Echo::FOOTPRINT.total();
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    Ok(())
}

async fn serve(worker: kio::Worker<Echo>) -> kio::Result<()> {
    let _ = worker.spawn(|| library::handle(0u8));
    let mut listener = worker.listen("127.0.0.1:0").await?;
    loop {
        let place = worker.reserve(echo).await?;
        let conn = listener.accept().await?;
        place.spawn(move || echo(conn));
    }
}

fn failed(_: kio::Core, failure: &kio::Failure<'_>) {
    println!("{failure}");
}

mod library {
    pub async fn handle<T: 'static>(value: T) {
        drop(value);
    }
}

const _: () = assert!(Echo::FOOTPRINT.total() <= 160 << 20);

fn main() {
    let _ = (Echo::run, Echo::start, Echo::start_when_free);
}
