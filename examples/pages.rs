//! What `static_files` and `tls_files` share: files of a directory, to requests of a connection.

use kio::net::Stream;
use kio::{Error, Result, fs::Kind};

use crate::http::{BAD, MISSING, Request, parse, put_head};

/// Bytes of a request: one buffer.
pub const REQUEST_MAX: usize = 16 << 10;

/// Answers requests, until the peer has ended its side, or the last word is ours: then true.
pub async fn serve<S: Stream>(conn: &mut S) -> Result<bool> {
    while let Some(data) = conn.recv_idle().await? {
        let mut data = data.try_mut().expect("nobody shares what just came");
        while !data.is_empty() {
            if let Some((len, request)) = parse(&data, REQUEST_MAX) {
                answer(conn, &request).await?;
                if !request.keep {
                    return Ok(true);
                }
                data.consume(len);
            } else {
                data.compact(); // a part of a request: the rest is on its way
                if conn.recv_into(&mut data).await? == 0 {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

async fn answer<S: Stream>(conn: &mut S, request: &Request<'_>) -> Result<()> {
    let core = kio::net::RecvHalf::core(conn);
    let Some(path) = request.path else { return conn.send(BAD).await };
    let file = match core.open(path).await {
        Err(error) if error.errno().is_some() => return conn.send(MISSING).await,
        opened => opened?,
    };
    let metadata = file.metadata().await?;
    if metadata.kind() != Kind::File {
        return conn.send(MISSING).await;
    }
    let mut head = core.buf().await?;
    let part = put_head(&mut head, metadata.len(), request.range)?;
    let len = part.end - part.start;
    conn.push(head).await?;
    if !request.head && file.send_to(conn, part).await? < len {
        return Err(Error::Other("the file became shorter: the reply ends with the connection"));
    }
    conn.flush().await
}
