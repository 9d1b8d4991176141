//! Shows the life of one echo, event by event: `cargo run --example trace --features trace [FILE]`.
//! With a FILE the trace is written there too, for https://ui.perfetto.dev or chrome://tracing.

use std::fs::File;
use std::io::{BufWriter, Read, Write};

use kio::trace::{Event, Kind};
use kio::{Error, Result, net::TcpStream};

async fn echo(mut conn: TcpStream) -> Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    Ok(())
}

kio::pool! {
    struct Echo;
    listen  = { "127.0.0.1:0" => echo },
    conns   = 16,
    buffers = 64 x 4 KiB,
}

fn main() -> Result<()> {
    let pool = Echo::start()?;
    let mut client = std::net::TcpStream::connect(pool.local_addr()?)?;
    // The first one on a connection has the accept in it; the second is what every other is like.
    for _ in 0..2 {
        client.write_all(b"hello")?;
        client.read_exact(&mut [0; 5])?;
    }

    let events: Vec<Event> = pool.trace(0).collect();
    let sends =
        events.iter().enumerate().filter(|(_, e)| e.kind == Kind::Submit && e.name == "send");
    let places: Vec<usize> = sends.map(|(place, _)| place).collect();
    let [first, second, ..] = places[..] else {
        return Err(Error::Other("the trace has no two echoes"));
    };
    // From where the first one was out to where the second one was.
    let sent = |from: usize| {
        let is_sent = |e: &Event| e.kind == Kind::Complete && e.name == "send";
        events[from..].iter().position(is_sent).map_or(events.len(), |n| from + n + 1)
    };
    let mut last = events[sent(first)].ns;
    println!("{:>9}", "us since");
    for event in &events[sent(first)..sent(second)] {
        let text = event.to_string();
        let what = text.split_once(" us  ").map_or("", |(_, what)| what);
        println!("{:>9.3}  {what}", (event.ns - last) as f64 / 1000.0);
        last = event.ns;
    }

    if let Some(path) = std::env::args().nth(1) {
        pool.write_trace(&mut BufWriter::new(File::create(&path)?))?;
        println!("\n{path}: open it with https://ui.perfetto.dev or chrome://tracing");
    }
    drop(client);
    pool.stop();
    pool.join()
}
