//! Answers HTTP/1: `cargo run --release --example hello [ADDR]`, then open http://127.0.0.1:8080/,
//! or try `printf 'HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n' | nc 127.0.0.1 8080`.
//! Connections are kept, requests may be pipelined or come in parts; Ctrl-C lets them end in order.

mod addr;

use kio::{Result, net::TcpStream};
use std::time::Duration;

const KEEP: &str = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nHello from kio.\n";
const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHello from kio.\n";
const BAD: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
const LONG: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n";
const REQUEST_MAX: usize = 16 << 10; // one buffer

async fn hello(mut conn: TcpStream) -> Result<()> {
    conn.set_recv_timeout(Some(Duration::from_secs(60)));
    'serve: while let Some(data) = conn.recv_idle().await? {
        let mut data = data.try_mut().expect("nobody shares what just came");
        while !data.is_empty() {
            if let Some((len, reply, keep)) = parse(&data) {
                conn.push(reply).await?;
                data.consume(len);
                if !keep {
                    break 'serve;
                }
            } else {
                conn.flush().await?; // a part of a request: answer those before it, then wait
                data.compact();
                if conn.recv_into(&mut data).await? == 0 {
                    return Ok(());
                }
            }
        }
        conn.flush().await?;
    }
    conn.finish(Duration::from_secs(2)).await
}

/// The first request's length, its reply, and whether the connection stays; `None` for a part.
fn parse(data: &[u8]) -> Option<(usize, &'static str, bool)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(data) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(_) if data.len() < REQUEST_MAX => return None,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Some((0, LONG, false)),
        Err(_) => return Some((0, BAD, false)),
    };
    let find = |name| request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    let close = find("connection").is_some_and(|h| h.value.eq_ignore_ascii_case(b"close"));
    let body = find("content-length").or(find("transfer-encoding")).is_some(); // not here
    let keep = request.version == Some(1) && !close;
    let reply = if keep { KEEP } else { LAST };
    match request.method {
        Some("GET") if !body => Some((len, reply, keep)),
        Some("HEAD") if !body => Some((len, reply.strip_suffix("Hello from kio.\n")?, keep)),
        _ => Some((0, BAD, false)),
    }
}

kio::pool! {
    struct Hello;
    workers = ..=8,
    state   = addr::Addr,
    listen  = { addr::Addr::get => hello },
    conns   = 4096,
    buffers = 1024 x REQUEST_MAX,
}

fn main() -> Result<()> {
    let addr = addr::from_args("127.0.0.1:8080")?;
    println!("open http://{addr}/");
    Hello::run(addr)
}
