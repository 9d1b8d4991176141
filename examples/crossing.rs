//! One counter, kept by one worker and used by all, without a lock: `cargo run --release --example
//! crossing [ADDR]`, then `nc 127.0.0.1 7003` in a few terminals and some lines in each. Connections
//! come to both workers; every line is answered with its number among all, and with who served it.

mod addr;

use std::cell::Cell;
use std::fmt::Write;
use std::net::SocketAddr;

use kio::net::TcpStream;
use kio::{Core, Result, Worker};

/// What each worker has; of the counters one is used.
struct Lines {
    addr: SocketAddr,
    counted: Cell<u64>,
}

impl kio::State for Lines {
    type Args = SocketAddr;

    fn init(_: Core, addr: &SocketAddr) -> Result<Self> {
        Ok(Self { addr: *addr, counted: Cell::new(0) })
    }
}

impl Lines {
    fn addr(&self) -> SocketAddr {
        self.addr
    }
}

async fn serve(worker: Worker<Crossing>, mut conn: TcpStream) -> Result<()> {
    // Many counters would be spread over the workers by their names; of this one all know the home.
    let home = worker.by_key(b"lines");
    while let Some(data) = conn.recv_idle().await? {
        let lines = data.iter().filter(|byte| **byte == b'\n').count() as u64;
        // Runs there, between two turns of whatever else that worker does: nothing can interfere.
        let count = worker.on(home, async move |home| {
            let counted = &home.state().counted;
            counted.replace(counted.get() + lines)
        });
        let before = count.await?;
        for nth in before + 1..=before + lines {
            let mut reply = worker.buf().await?;
            writeln!(reply, "line {nth}, served by worker {}", worker.index())?;
            conn.push(reply).await?;
        }
        conn.flush().await?;
    }
    conn.close().await
}

kio::pool! {
    struct Crossing;
    workers  = 2,
    pin      = off, // also where there is one CPU only
    state    = Lines,
    listen   = { Lines::addr => serve },
    calls    = 64 x 64 B,
    buffers  = 512 x 4 KiB,
}

fn main() -> Result<()> {
    let addr = addr::from_args("127.0.0.1:7003")?;
    println!("crossing on {addr}: try `nc {} {}`", addr.ip(), addr.port());
    Crossing::run(addr)
}
