//! Serves a directory over HTTP/1: `cargo run --release --example static_files [ADDR [DIR]]`, then
//! open http://127.0.0.1:8081/README.md, or try `curl -I`, `curl -r 0-99` and, on a large file that
//! `truncate` cuts meanwhile, `curl --limit-rate 1M`. Links are followed; %-escapes are not known.

mod dir;
mod http;
mod pages;

use std::time::Duration;

use kio::{Result, net::TcpStream};
use pages::REQUEST_MAX;

async fn serve(mut conn: TcpStream) -> Result<()> {
    conn.set_recv_timeout(Some(Duration::from_secs(60)));
    conn.set_send_timeout(Some(Duration::from_secs(60)));
    if pages::serve(&mut conn).await? { conn.finish(Duration::from_secs(2)).await } else { Ok(()) }
}

kio::pool! {
    struct Site;
    workers = ..=8,
    state   = dir::Dir,
    root    = dir::Dir::path,
    listen  = { dir::Dir::addr => serve },
    conns   = 512,
    files   = 512, // one for each reply
    buffers = 512 x REQUEST_MAX,
}

fn main() -> Result<()> {
    let args = dir::from_args("127.0.0.1:8081")?;
    println!("open http://{}/", args.0);
    Site::run(args)
}
