//! Serves a directory over HTTP/1: `cargo run --release --example static_files [ADDR [DIR]]`, then
//! open http://127.0.0.1:8081/README.md, or try `curl -I`, `curl -r 0-99` and, on a large file that
//! `truncate` cuts meanwhile, `curl --limit-rate 1M`. Links are followed; %-escapes are not known.

mod dir;
mod http;

use std::time::Duration;

use http::{BAD, MISSING, Request, parse, put_head};
use kio::{Error, Result, fs::Kind, net::TcpStream};

const REQUEST_MAX: usize = 16 << 10; // one buffer

async fn serve(mut conn: TcpStream) -> Result<()> {
    conn.set_recv_timeout(Some(Duration::from_secs(60)));
    conn.set_send_timeout(Some(Duration::from_secs(60)));
    'serve: while let Some(data) = conn.recv_idle().await? {
        let mut data = data.try_mut().expect("nobody shares what just came");
        while !data.is_empty() {
            if let Some((len, request)) = parse(&data, REQUEST_MAX) {
                answer(&mut conn, &request).await?;
                if !request.keep {
                    break 'serve;
                }
                data.consume(len);
            } else {
                data.compact(); // a part of a request: the rest is on its way
                if conn.recv_into(&mut data).await? == 0 {
                    return Ok(());
                }
            }
        }
    }
    conn.finish(Duration::from_secs(2)).await
}

async fn answer(conn: &mut TcpStream, request: &Request<'_>) -> Result<()> {
    let Some(path) = request.path else { return conn.send(BAD).await };
    let file = match conn.core().open(path).await {
        Err(error) if error.errno().is_some() => return conn.send(MISSING).await,
        opened => opened?,
    };
    let metadata = file.metadata().await?;
    if metadata.kind() != Kind::File {
        return conn.send(MISSING).await;
    }
    let mut head = conn.core().buf().await?;
    let part = put_head(&mut head, metadata.len(), request.range)?;
    let len = part.end - part.start;
    conn.push(head).await?;
    if !request.head && file.send_to(conn, part).await? < len {
        return Err(Error::Other("the file became shorter: the reply ends with the connection"));
    }
    conn.flush().await
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
