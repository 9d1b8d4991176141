//! The counters, told in Prometheus' text format on a port of their own.

use std::fmt::{self, Write};

use kio::net::{Listener, TcpStream};
use kio::{BufMut, Error};

use crate::Worker;
use crate::config::SERVERS;
use crate::state::{Numbers, ServerNumbers, Snapshot};

/// Accepts who asks for the page.
pub async fn pages(worker: Worker, mut listener: Listener) -> kio::Result<()> {
    loop {
        let place = worker.reserve(page).await?;
        let conn = listener.accept().await?;
        place.spawn(move || page(worker, conn));
    }
}

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n\r\n";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// Bytes of the longest line.
const LINE: usize = 256;

/// Answers one request.
pub async fn page(worker: Worker, mut conn: TcpStream) -> kio::Result<()> {
    conn.set_recv_timeout(Some(std::time::Duration::from_secs(5)));
    conn.set_send_timeout(Some(std::time::Duration::from_secs(5)));
    let mut request = worker.buf().await?;
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        if request.spare() == 0 || conn.recv_into(&mut request).await? == 0 {
            return Err(Error::Other("no request"));
        }
    }
    let asked = request.starts_with(b"GET /metrics ") || request.starts_with(b"GET / ");
    drop(request);
    if !asked {
        return conn.send(NOT_FOUND).await;
    }
    conn.push(HEAD).await?;
    write(worker, Page { buf: worker.buf().await?, conn: &mut conn }).await?;
    conn.shutdown().await?;
    // Until the client has read it: an early close could cut it off.
    while conn.recv().await?.is_some() {}
    Ok(())
}

/// Lines on their way out through buffers of the store.
struct Page<'a> {
    buf: BufMut,
    conn: &'a mut TcpStream,
}

impl Page<'_> {
    async fn line(&mut self, worker: Worker, line: fmt::Arguments<'_>) -> kio::Result<()> {
        if self.buf.spare() < LINE {
            self.out().await?;
            self.buf = worker.buf().await?;
        }
        self.buf.write_fmt(line).map_err(|_| Error::Other("a line is too long"))
    }

    async fn out(&mut self) -> kio::Result<()> {
        // Flushed, so that its buffer is there for the rest.
        let text: &[u8] = &self.buf;
        self.conn.send_copy(text).await?;
        self.buf.clear();
        Ok(())
    }
}

/// A counter's name, what it is, and where.
type Told<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

const TOLD: [Told<Numbers>; 12] = [
    ("accepted_total", "counter", "Clients accepted.", |n| n.accepted),
    ("clients", "gauge", "Clients that are here now.", |n| n.accepted - n.ended),
    ("wrong_headers_total", "counter", "Clients with a wrong PROXY header.", |n| n.wrong_headers),
    ("no_server_total", "counter", "Clients for whom no server was up.", |n| n.no_server),
    ("waits_total", "counter", "Clients that waited for a server with room.", |n| n.waits),
    ("wait_timeouts_total", "counter", "Clients that waited too long.", |n| n.wait_timeouts),
    ("retries_total", "counter", "Connects tried at another server.", |n| n.retries),
    ("relays_total", "counter", "Clients that reached a server.", |n| n.relays),
    ("resets_total", "counter", "Relays that ended with a reset.", |n| n.resets),
    ("timeouts_total", "counter", "Relays that ended for idleness.", |n| n.timeouts),
    ("reloads_total", "counter", "Configurations taken over.", |n| n.reloads),
    ("failed_reloads_total", "counter", "Configurations refused.", |n| n.failed_reloads),
];

const TOLD_OF_SERVERS: [Told<ServerNumbers>; 6] = [
    ("server_connections_total", "counter", "Connections to the server.", |n| n.connections),
    ("server_failures_total", "counter", "Connects that failed.", |n| n.failures),
    ("server_active", "gauge", "Connections open now.", |n| n.active),
    ("server_up", "gauge", "Workers that see it up.", |n| n.up),
    ("server_bytes_to_total", "counter", "Bytes from clients.", |n| n.bytes_to),
    ("server_bytes_from_total", "counter", "Bytes to clients.", |n| n.bytes_from),
];

async fn write(worker: Worker, mut page: Page<'_>) -> kio::Result<()> {
    let mut sum =
        Snapshot { numbers: Numbers::default(), servers: [ServerNumbers::default(); SERVERS] };
    for nth in 0..worker.workers() {
        let there = worker.on(nth, async |there| there.state().snapshot()).await;
        sum.add(&there.map_err(|_| Error::Stopped)?);
    }
    for (name, kind, help, of) in TOLD {
        let n = of(&sum.numbers);
        let line = format_args!(
            "# HELP kio_proxy_{name} {help}\n# TYPE kio_proxy_{name} {kind}\nkio_proxy_{name} {n}\n"
        );
        page.line(worker, line).await?;
    }
    // The configuration may change while this waits: its labels are copied.
    let config = worker.state().config().clone();
    for (name, kind, help, of) in TOLD_OF_SERVERS {
        let line = format_args!("# HELP kio_proxy_{name} {help}\n# TYPE kio_proxy_{name} {kind}\n");
        page.line(worker, line).await?;
        for (server, numbers) in config.servers.iter().zip(&sum.servers) {
            let (group, addr, n) = (&config.groups[server.group].name, server.addr, of(numbers));
            let line = format_args!("kio_proxy_{name}{{group={group:?},server=\"{addr}\"}} {n}\n");
            page.line(worker, line).await?;
        }
    }
    for nth in 0..worker.workers() {
        let stats = worker.on(nth, async |there| there.core().stats()).await;
        let stats = stats.map_err(|_| Error::Stopped)?;
        for (name, n) in [
            ("open", stats.open),
            ("open_peak", stats.open_peak),
            ("buffers", stats.buffers),
            ("buffers_peak", stats.buffers_peak),
            ("tasks_peak", stats.tasks_peak),
            ("received", stats.received),
            ("sent", stats.sent),
            ("accept_waits", stats.accept_waits),
            ("enobufs", stats.enobufs),
            ("stalled", stats.stalled),
            ("stale", stats.stale),
            ("overflows", stats.overflows),
            ("panics", stats.panics),
        ] {
            let line = format_args!("kio_{name}{{worker=\"{nth}\"}} {n}\n");
            page.line(worker, line).await?;
        }
    }
    page.out().await
}

impl Snapshot {
    fn add(&mut self, other: &Self) {
        let (a, b) = (&mut self.numbers, &other.numbers);
        for (a, b) in [
            (&mut a.accepted, b.accepted),
            (&mut a.ended, b.ended),
            (&mut a.wrong_headers, b.wrong_headers),
            (&mut a.no_server, b.no_server),
            (&mut a.waits, b.waits),
            (&mut a.wait_timeouts, b.wait_timeouts),
            (&mut a.retries, b.retries),
            (&mut a.relays, b.relays),
            (&mut a.resets, b.resets),
            (&mut a.timeouts, b.timeouts),
            (&mut a.reloads, b.reloads),
            (&mut a.failed_reloads, b.failed_reloads),
        ] {
            *a += b;
        }
        for (a, b) in self.servers.iter_mut().zip(&other.servers) {
            a.connections += b.connections;
            a.failures += b.failures;
            a.active += b.active;
            a.up += b.up;
            a.bytes_to += b.bytes_to;
            a.bytes_from += b.bytes_from;
        }
    }
}
