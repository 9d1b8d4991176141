//! Serving a page over HTTP: one request a connection, bounded in bytes and in time.

#[cfg(feature = "std")]
use core::net::SocketAddr;
use core::time::Duration;

use super::{Page, pool};
use crate::Core;
use crate::error::{Error, Result};
use crate::net::{RecvHalf, Stream, TcpStream};

/// How long a scraper has, for its request and for taking the reply.
const LIMIT: Duration = Duration::from_secs(10);
/// How long one that has all is waited for to close.
const LINGER: Duration = Duration::from_secs(1);

const PAGE: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
    Connection: close\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";
const NOT_CHUNKED: &str = "\r\n";
const BAD: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const LONG: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";
const METHOD: &str = "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";
const ELSEWHERE: &str = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\
    Content-Length: 18\r\nConnection: close\r\n\r\nmetrics: /metrics\n";

/// Answers one request of `/metrics` over HTTP/1 with what all workers of the pool have counted, in
/// Prometheus' text format, and closes. For `listen`, or for an accept loop of one's own.
///
/// The request is at most a buffer long; it and the reply together may take ten seconds. One buffer is
/// held at a time, whoever scrapes and however slowly. Nothing is allocated.
///
/// Errors: `TimedOut` past the ten seconds; what receiving and sending fail with. Cancel safety:
/// dropped, it closes the connection.
pub async fn serve(conn: TcpStream) -> Result<()> {
    serve_with(conn, async |_| Ok(())).await
}

/// As [`serve`], on any stream, with what `more` writes behind kio's own on the page.
///
/// ```
/// use kio::metrics::Kind;
///
/// async fn serve(conn: kio::net::TcpStream) -> kio::Result<()> {
///     kio::metrics::serve_with(conn, async |page| {
///         page.family("app_orders_total", Kind::Counter, "Orders taken.").await?;
///         page.sample("app_orders_total", &[("shop", &"north")], 17).await
///     })
///     .await
/// }
/// ```
///
/// `more` counts towards the ten seconds. Its error ends the page, which a scraper that speaks
/// HTTP/1.1 sees cut off.
pub async fn serve_with<S: Stream>(
    mut conn: S,
    more: impl AsyncFnOnce(&mut Page<'_, S>) -> Result<()>,
) -> Result<()> {
    let core = RecvHalf::core(&conn);
    if !core.timeout(LIMIT, answer(&mut conn, more)).await?? {
        return Ok(());
    }
    // The last words wait too where nobody reads: a TLS stream's close_notify.
    if core.timeout(LINGER, conn.shutdown()).await.is_err() {
        return Ok(()); // closed at once
    }
    match conn.finish(LINGER).await {
        Err(Error::TimedOut) => Ok(()), // it has what it asked for
        finished => finished,
    }
}

/// Listens on an address and serves [`serve`]'s page there, to one scraper at a time: the others wait
/// in the backlog. For `spawn`, and for `tasks`. Ends when the pool stops.
///
/// Errors: the address cannot be bound, or accepting fails; what a scraper does wrong is his own
/// matter.
#[cfg(feature = "std")]
pub async fn serve_on(core: Core, addr: SocketAddr) -> Result<()> {
    let mut listener = core.listen(addr).await?;
    loop {
        let conn = match listener.accept().await {
            Err(Error::Stopped) => return Ok(()),
            accepted => accepted?,
        };
        let _ = serve(conn).await;
    }
}

/// Takes the request and answers it; false where none came.
async fn answer<S: Stream>(
    conn: &mut S,
    more: impl AsyncFnOnce(&mut Page<'_, S>) -> Result<()>,
) -> Result<bool> {
    let Some(asked) = request(conn).await? else { return Ok(false) };
    let core = RecvHalf::core(conn);
    match asked {
        Err(refusal) => conn.send(refusal).await?,
        Ok(Asked { head_only, chunked }) => {
            conn.push(PAGE).await?;
            conn.push(if chunked { CHUNKED } else { NOT_CHUNKED }).await?;
            if !head_only {
                let mut page = Page::new(conn, chunked);
                pool::write(&mut page, core).await?;
                more(&mut page).await?;
                page.end().await?;
            }
            conn.flush().await?;
        }
    }
    Ok(true)
}

/// How the page is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    head_only: bool,
    chunked: bool,
}

/// Receives the request, up to a buffer, which is given back; `None` where the peer closed before it
/// was complete. The inner error is the reply that refuses it.
async fn request<S: Stream>(
    conn: &mut S,
) -> Result<Option<core::result::Result<Asked, &'static str>>> {
    let Some(first) = conn.recv_idle().await? else { return Ok(None) };
    let Ok(mut head) = first.try_mut() else { return Ok(None) };
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.spare() == 0 {
            return Ok(Some(Err(LONG)));
        }
        if conn.recv_into(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(parse(&head)))
}

/// What the first line asks for. The rest of the head changes nothing.
fn parse(head: &[u8]) -> core::result::Result<Asked, &'static str> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = core::str::from_utf8(line).map_err(|_| BAD)?.split(' ');
    let (method, target) = (words.next(), words.next().ok_or(BAD)?);
    let chunked = match words.next() {
        Some("HTTP/1.1") => true,
        Some("HTTP/1.0") => false,
        _ => return Err(BAD),
    };
    if words.next().is_some() {
        return Err(BAD);
    }
    let head_only = match method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(METHOD),
    };
    match target.split('?').next() {
        Some("/metrics") => Ok(Asked { head_only, chunked }),
        _ => Err(ELSEWHERE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_is_served_and_the_rest_refused() {
        let get = Asked { head_only: false, chunked: true };
        assert_eq!(parse(b"GET /metrics HTTP/1.1\r\n\r\n"), Ok(get));
        assert_eq!(parse(b"GET /metrics?a=b HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(get));
        assert_eq!(parse(b"GET /metrics HTTP/1.0\r\n\r\n"), Ok(Asked { chunked: false, ..get }));
        assert_eq!(parse(b"HEAD /metrics HTTP/1.1\r\n\r\n"), Ok(Asked { head_only: true, ..get }));
        assert_eq!(parse(b"POST /metrics HTTP/1.1\r\n\r\n"), Err(METHOD));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n"), Err(ELSEWHERE));
        for bad in
            [&b"\r\n\r\n"[..], b"GET\r\n\r\n", b"GET /metrics\r\n\r\n", b"\xff \xff \xff\r\n"]
        {
            assert_eq!(parse(bad), Err(BAD), "{bad:?}");
        }
        assert_eq!(parse(b"GET /metrics HTTP/1.1 x\r\n\r\n"), Err(BAD));
        assert_eq!(parse(b"GET /metrics HTTP/2\r\n\r\n"), Err(BAD));
    }
}
