//! The counters, told in Prometheus' text format on a port of their own: the proxy's behind kio's.

use kio::Error;
use kio::metrics::{Kind, Page, serve_with};
use kio::net::{Listener, SendHalf, TcpStream};

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

/// Answers one request.
pub async fn page(worker: Worker, conn: TcpStream) -> kio::Result<()> {
    serve_with(conn, async |page| write(worker, page).await).await
}

/// A counter's name, what it is, and where.
type Told<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

const TOLD: [Told<Numbers>; 16] = [
    ("kio_proxy_accepted_total", Kind::Counter, "Clients accepted.", |n| n.accepted),
    ("kio_proxy_clients", Kind::Gauge, "Clients that are here now.", |n| n.accepted - n.ended),
    ("kio_proxy_wrong_headers_total", Kind::Counter, "Clients with a wrong PROXY header.", |n| {
        n.wrong_headers
    }),
    ("kio_proxy_handshakes_total", Kind::Counter, "TLS handshakes with clients.", |n| n.handshakes),
    ("kio_proxy_failed_handshakes_total", Kind::Counter, "Those that failed.", |n| {
        n.failed_handshakes
    }),
    ("kio_proxy_no_server_total", Kind::Counter, "Clients for whom no server was up.", |n| {
        n.no_server
    }),
    ("kio_proxy_waits_total", Kind::Counter, "Clients that waited for a server with room.", |n| {
        n.waits
    }),
    ("kio_proxy_wait_timeouts_total", Kind::Counter, "Clients that waited too long.", |n| {
        n.wait_timeouts
    }),
    ("kio_proxy_retries_total", Kind::Counter, "Connects tried at another server.", |n| n.retries),
    ("kio_proxy_relays_total", Kind::Counter, "Clients that reached a server.", |n| n.relays),
    ("kio_proxy_resets_total", Kind::Counter, "Relays that ended with a reset, or cut.", |n| {
        n.resets
    }),
    ("kio_proxy_timeouts_total", Kind::Counter, "Relays that ended for idleness.", |n| n.timeouts),
    ("kio_proxy_bytes_to_total", Kind::Counter, "Bytes from clients.", |n| n.bytes_to),
    ("kio_proxy_bytes_from_total", Kind::Counter, "Bytes to clients.", |n| n.bytes_from),
    ("kio_proxy_reloads_total", Kind::Counter, "Configurations taken over.", |n| n.reloads),
    ("kio_proxy_failed_reloads_total", Kind::Counter, "Configurations refused.", |n| {
        n.failed_reloads
    }),
];

const TOLD_OF_SERVERS: [Told<ServerNumbers>; 6] = [
    ("kio_proxy_server_connections_total", Kind::Counter, "Connections to the server.", |n| {
        n.connections
    }),
    (
        "kio_proxy_server_failures_total",
        Kind::Counter,
        "Connects and handshakes that failed.",
        |n| n.failures,
    ),
    ("kio_proxy_server_active", Kind::Gauge, "Connections open now.", |n| n.active),
    ("kio_proxy_server_up", Kind::Gauge, "Workers that see it up.", |n| n.up),
    ("kio_proxy_server_bytes_to_total", Kind::Counter, "Bytes from clients.", |n| n.bytes_to),
    ("kio_proxy_server_bytes_from_total", Kind::Counter, "Bytes to clients.", |n| n.bytes_from),
];

/// Writes what all workers have counted.
async fn write<S: SendHalf>(worker: Worker, page: &mut Page<'_, S>) -> kio::Result<()> {
    let mut sum =
        Snapshot { numbers: Numbers::default(), servers: [ServerNumbers::default(); SERVERS] };
    for nth in 0..worker.workers() {
        let there = worker.on(nth, async |there| there.state().snapshot()).await;
        sum.add(&there.map_err(|_| Error::Stopped)?);
    }
    for (name, kind, help, of) in TOLD {
        page.family(name, kind, help).await?;
        page.sample(name, &[], of(&sum.numbers)).await?;
    }
    // The configuration may change while this waits: its labels are copied.
    let config = worker.state().config().clone();
    for (name, kind, help, of) in TOLD_OF_SERVERS {
        page.family(name, kind, help).await?;
        for (server, numbers) in config.servers.iter().zip(&sum.servers) {
            let group = &config.groups[server.group].name;
            let labels: &[(&str, &dyn core::fmt::Display)] =
                &[("group", group), ("server", &server.addr)];
            page.sample(name, labels, of(numbers)).await?;
        }
    }
    Ok(())
}

impl Snapshot {
    fn add(&mut self, other: &Self) {
        let (a, b) = (&mut self.numbers, &other.numbers);
        for (a, b) in [
            (&mut a.accepted, b.accepted),
            (&mut a.ended, b.ended),
            (&mut a.wrong_headers, b.wrong_headers),
            (&mut a.handshakes, b.handshakes),
            (&mut a.failed_handshakes, b.failed_handshakes),
            (&mut a.no_server, b.no_server),
            (&mut a.waits, b.waits),
            (&mut a.wait_timeouts, b.wait_timeouts),
            (&mut a.retries, b.retries),
            (&mut a.relays, b.relays),
            (&mut a.resets, b.resets),
            (&mut a.timeouts, b.timeouts),
            (&mut a.bytes_to, b.bytes_to),
            (&mut a.bytes_from, b.bytes_from),
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
