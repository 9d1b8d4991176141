//! Sends back whatever arrives: `cargo run --release --example echo [ADDR]`, then
//! `nc 127.0.0.1 7000`.

mod addr;

use kio::{Result, net::TcpStream};

async fn echo(mut conn: TcpStream) -> Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.push(data).await?; // the received buffer itself, not a copy
        while let Some(more) = conn.try_recv() {
            conn.push(more).await?; // what came with it
        }
        conn.flush().await?; // one send
    }
    Ok(())
}

kio::pool! {
    struct Echo;
    workers = ..=8,
    state   = addr::Addr,
    listen  = { addr::Addr::get => echo },
    conns   = 1024,
    buffers = 512 x 16 KiB,
}

fn main() -> Result<()> {
    let addr = addr::from_args("127.0.0.1:7000")?;
    println!("echo on {addr}: try `nc {} {}`", addr.ip(), addr.port());
    Echo::run(addr)
}
