//! What compiles and is hardly meant, as warnings.
#![deny(deprecated)]

kio::pool! {
    struct App;
    listen = { "127.0.0.1:80" => handle },
    tasks = { handle: 128 },
    conns = 64,
    buffers = 256 x 4 KiB,
    window = 8,
}

async fn handle(_: kio::net::TcpStream) {}

fn main() {}
