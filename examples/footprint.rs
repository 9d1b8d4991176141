//! What a declaration takes, and what this kernel gives: `cargo run --release --example footprint`.
//! Change a number below, a `const` or the `budget`, and look again.

use kio::{Result, net::TcpStream};

kio::pool! {
    struct App;
    workers = 2,
    listen  = { "127.0.0.1:7000" => quiet },
    conns   = 1024,
    buffers = 2048 x 16 KiB,
    budget  = 80 MiB,
}

// It is a number while compiling already.
const _: () = assert!(App::FOOTPRINT.locked <= 8 << 20);

async fn quiet(mut conn: TcpStream) -> Result<()> {
    while conn.recv_idle().await?.is_some() {}
    Ok(())
}

fn main() -> Result<()> {
    println!("{} workers, 1024 sockets and 2048 buffers each:\n", App::FOOTPRINT.workers);
    println!("{}", App::FOOTPRINT);
    println!("{}", kio::probe()?);
    Ok(())
}
