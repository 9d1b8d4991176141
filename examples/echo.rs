//! Sends back whatever arrives: `cargo run --release --example echo [ADDR]`, then
//! `nc 127.0.0.1 7000`.

use std::net::SocketAddr;

use kio::net::TcpStream;

async fn echo(mut conn: TcpStream) -> kio::Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?; // the received buffer itself, not a copy
    }
    Ok(())
}

/// What is known at run time only: where to listen.
struct Setup(SocketAddr);

impl kio::State for Setup {
    type Args = SocketAddr;

    fn init(_: kio::Core, addr: &SocketAddr) -> kio::Result<Self> {
        Ok(Self(*addr))
    }
}

fn addr(setup: &Setup) -> SocketAddr {
    setup.0
}

kio::pool! {
    struct Echo;
    workers = ..=8,
    state = Setup,
    listen = { addr => echo },
    tasks = { echo: 1024 },
    conns = 1024,
    buffers = 512 x 16 KiB,
}

fn main() -> kio::Result<()> {
    let addr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7000".into());
    let addr: SocketAddr = addr
        .parse()
        .map_err(|_| kio::Error::Other("usage: echo [IP:PORT]"))?;
    println!("echo on {addr}: try `nc {} {}`", addr.ip(), addr.port());
    Echo::run(addr)
}
