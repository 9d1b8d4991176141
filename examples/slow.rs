//! A request has five seconds to arrive, however many pieces it comes in, and so has the peer to
//! take its reply: `cargo run --release --example slow [ADDR]`, then `nc 127.0.0.1 7001` and a line
//! in time. Who sends a byte a second is cut off, as is who sends a line longer than 4 KiB:
//! `for c in a b c d e f g h; do printf $c; sleep 1; done | nc 127.0.0.1 7001`.

mod addr;

use std::time::Duration;

use kio::net::TcpStream;
use kio::{BufMut, Error, Result};

const LIMIT: Duration = Duration::from_secs(5);

async fn serve(mut conn: TcpStream) -> Result<()> {
    let core = conn.core();
    conn.set_send_timeout(Some(LIMIT));
    // Between requests a client may be quiet for a minute.
    conn.set_recv_timeout(Some(Duration::from_secs(60)));
    while let Some(first) = conn.recv_idle().await? {
        let mut line = first.try_mut().expect("nobody shares what just came");
        while !line.is_empty() {
            // One deadline for the whole line: a receive timeout would begin anew at each piece.
            match core.timeout(LIMIT, whole_line(&mut conn, &mut line)).await {
                Ok(Ok(len)) => {
                    conn.push_copy(&line[..len]).await?;
                    line.consume(len);
                }
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => {
                    conn.push("too slow\n").await?;
                    return conn.finish(LIMIT).await;
                }
            }
        }
        conn.flush().await?;
    }
    Ok(())
}

/// Receives until there is a whole line, and tells its length.
async fn whole_line(conn: &mut TcpStream, line: &mut BufMut) -> Result<usize> {
    loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            return Ok(end + 1);
        }
        conn.flush().await?; // the lines before it are answered first
        line.compact();
        if conn.recv_into(line).await? == 0 {
            return Err(Error::Other("the peer left in the middle of a line"));
        }
    }
}

kio::pool! {
    struct Slow;
    workers  = 1,
    state    = addr::Addr,
    listen   = { addr::Addr::get => serve },
    buffers  = 512 x 4 KiB,
    on_error = tell,
}

fn tell(_: kio::Core, failure: &kio::Failure<'_>) {
    eprintln!("{failure}");
}

fn main() -> Result<()> {
    let addr = addr::from_args("127.0.0.1:7001")?;
    println!("slow on {addr}: try `nc {} {}`", addr.ip(), addr.port());
    Slow::run(addr)
}
