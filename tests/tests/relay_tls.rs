//! Relaying where one side is TLS: what holds between TCP streams holds here, on both data paths, and
//! with few buffers too.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use kio::net::{ConnectOptions, ListenOptions, RelayError, RelayOptions, Relayed, relay_with};
use kio::tls::{Mode, TlsAcceptor, TlsConnector};
use kio::{Core, Error, StartError, Worker};
use kio_tests::tls::{Authority, Choice, NAME, tls_over};
use kio_tests::{HANG, client, pattern, scaled};
use rustls::{ClientConfig, ServerConfig, ServerConnection, StreamOwned};

type Tcp = std::net::TcpStream;

kio::pool! {
    struct Net;
    entry = idle,
    spawn = 16 x 48 KiB,
    calls = 4 x 64 KiB,
    conns = 64,
    buffers = 256 x 16 KiB,
    outbox = 32,
}

kio::pool! {
    struct Few;
    entry = idle,
    spawn = 16 x 48 KiB,
    calls = 4 x 64 KiB,
    conns = 64,
    buffers = 4 x 16 KiB,
    stall = 30 s,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// Which side is TLS, and who does its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sides {
    near: bool,
    mode: Mode,
}

/// All there are on this kernel.
fn sides() -> Vec<Sides> {
    let mut modes = vec![Mode::Off];
    match kio::tls::support().missing {
        None => modes.push(Mode::Require),
        Some(why) => println!("skipped: the kernel's data path ({why})"),
    }
    modes.into_iter().flat_map(|mode| [true, false].map(|near| Sides { near, mode })).collect()
}

/// The end of a connection that the test holds.
trait Peer: Read + Write + Send {
    /// Ends what it sends.
    fn end(&mut self);
    fn tcp(&self) -> &Tcp;
}

impl Peer for Tcp {
    fn end(&mut self) {
        self.shutdown(Shutdown::Write).expect("a connection");
    }
    fn tcp(&self) -> &Tcp {
        self
    }
}

impl Peer for StreamOwned<rustls::ClientConnection, Tcp> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("a connection");
    }
    fn tcp(&self) -> &Tcp {
        &self.sock
    }
}

impl Peer for StreamOwned<ServerConnection, Tcp> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("a connection");
    }
    fn tcp(&self) -> &Tcp {
        &self.sock
    }
}

/// Both configurations of all that is TLS here.
#[derive(Clone)]
struct Keys {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Keys {
    fn new() -> Self {
        let authority = Authority::new();
        let choice = Choice::any();
        let mut server = choice.server(&authority.issue(NAME));
        let mut client = choice.client(&authority);
        (server.enable_secret_extraction, client.enable_secret_extraction) = (true, true);
        Self { server: Arc::new(server), client: Arc::new(client) }
    }

    fn near(&self, sides: Sides, addr: SocketAddr) -> Box<dyn Peer> {
        let tcp = client(addr);
        match sides.near {
            true => Box::new(tls_over(tcp, &self.client)),
            false => Box::new(tcp),
        }
    }

    fn far(&self, sides: Sides, listener: &TcpListener) -> Box<dyn Peer> {
        let (tcp, _) = listener.accept().expect("the relay connects");
        tcp.set_read_timeout(Some(HANG)).expect("a time above zero");
        tcp.set_write_timeout(Some(HANG)).expect("a time above zero");
        tcp.set_nodelay(true).expect("a TCP socket");
        if sides.near {
            return Box::new(tcp);
        }
        let tls = ServerConnection::new(self.server.clone()).expect("a configuration");
        Box::new(StreamOwned::new(tls, tcp))
    }
}

/// One relay of a listener's next connection to `upstream`.
async fn relay_next(
    core: Core,
    keys: &Keys,
    sides: Sides,
    tcp: kio::net::TcpStream,
    upstream: SocketAddr,
    options: RelayOptions,
) -> Result<Relayed, RelayError> {
    let failed = |error| RelayError { error, relayed: Relayed::default() };
    let to = core.connect_with(upstream, ConnectOptions::new().real_fd()).await.map_err(failed)?;
    match sides.near {
        true => {
            let acceptor = TlsAcceptor::new(keys.server.clone(), sides.mode).expect("it is there");
            let (mut a, mut b) = (acceptor.accept(tcp).await.map_err(failed)?, to);
            relay_with(&mut a, &mut b, options).await
        }
        false => {
            let by = TlsConnector::new(keys.client.clone(), sides.mode).expect("it is there");
            let (mut a, mut b) = (tcp, by.connect(NAME, to).await.map_err(failed)?);
            relay_with(&mut a, &mut b, options).await
        }
    }
}

/// Relays `streams` connections on a worker of the pool, `near` with each one's client and `far` with
/// its server. Returns what became of each, in the order of their connecting.
macro_rules! between {
    ($pool:ty, $sides:expr, $streams:expr, $options:expr, $near:expr, $far:expr) => {{
        let (sides, streams, options): (Sides, usize, RelayOptions) = ($sides, $streams, $options);
        let (near, far) = (&$near, &$far);
        let keys = Keys::new();
        let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let upstream = server.local_addr().expect("bound");
        let (tell, told) = mpsc::channel::<SocketAddr>();
        thread::scope(|scope| {
            let (keys, server) = (&keys, &server);
            scope.spawn(move || {
                let addr = told.recv().expect("it listens");
                for i in 0..streams {
                    let mut near_end = keys.near(sides, addr);
                    let mut far_end = keys.far(sides, server);
                    scope.spawn(move || near(i, &mut *near_end));
                    scope.spawn(move || far(i, &mut *far_end));
                }
            });
            let pool = <$pool>::start_when_free().expect("the last run held nothing");
            let keys = keys.clone();
            let ended = pool.on(0, async move |worker: Worker<$pool>| {
                let core = worker.core();
                let options_of = ListenOptions::new().real_fds();
                let listening = worker.listen_with("127.0.0.1:0", options_of).await;
                let mut listener = listening.expect("a free port");
                tell.send(listener.local_addr().expect("bound")).expect("the peers live");
                let mut tasks = Vec::new();
                for _ in 0..streams {
                    let tcp = listener.accept().await.expect("clients connect");
                    let keys = keys.clone();
                    let task = core.spawn(move || async move {
                        let done = relay_next(core, &keys, sides, tcp, upstream, options).await;
                        kio::Result::Ok(done)
                    });
                    tasks.push(task.expect("there is room"));
                }
                let mut ended = Vec::new();
                for task in tasks {
                    ended.push(task.await.expect("it does not panic").expect("always"));
                }
                ended
            });
            let stats = pool.stats().next().expect("a worker");
            pool.stop();
            pool.join().expect("a clean end");
            if let Err(Error::Start(StartError::Retired(held))) = <$pool>::start().map(drop) {
                panic!("{sides:?}: the run ended with {held:?}");
            }
            assert_eq!(stats.stalled, 0, "{sides:?}: somebody was reset for buffers: {stats:?}");
            ended.expect("the body ends")
        })
    }};
}

/// Asks an echo by parts, ends, and gets the end back.
fn ask(peer: &mut dyn Peer, bytes: &[u8], part: usize) {
    let mut back = vec![0; part];
    for part in bytes.chunks(part) {
        peer.write_all(part).expect("the relay reads");
        peer.flush().expect("the relay reads");
        peer.read_exact(&mut back[..part.len()]).expect("it comes back");
        assert!(back[..part.len()] == *part, "bytes were lost or swapped");
    }
    peer.end();
    assert_eq!(peer.read(&mut back).expect("an orderly end"), 0);
}

/// Sends back what comes.
fn echo(peer: &mut dyn Peer) {
    let mut bytes = vec![0; 65_536];
    loop {
        match peer.read(&mut bytes).expect("an orderly end") {
            0 => break,
            n => peer.write_all(&bytes[..n]).expect("the relay reads"),
        }
        peer.flush().expect("the relay reads");
    }
    peer.end();
}

#[test]
fn every_byte_arrives_both_ways() {
    let bytes = pattern(scaled(4 << 20));
    for sides in sides() {
        let near = |_, peer: &mut dyn Peer| ask(peer, &bytes, 200_000);
        let far = |_, peer: &mut dyn Peer| echo(peer);
        let [ended] = &between!(Net, sides, 1, RelayOptions::new(), near, far)[..] else {
            panic!("one")
        };
        let all = bytes.len() as u64;
        assert_eq!(*ended, Ok(Relayed { a_to_b: all, b_to_a: all }), "{sides:?}");
    }
}

#[test]
fn the_end_of_one_side_is_carried_over_and_the_other_goes_on() {
    for sides in sides() {
        for client_first in [true, false] {
            let first = |peer: &mut dyn Peer| {
                peer.write_all(b"question").expect("the relay reads");
                peer.end();
                let mut answer = Vec::new();
                peer.read_to_end(&mut answer).expect("an orderly end");
                assert_eq!(answer, b"an answer, long after", "{sides:?}");
            };
            let second = |peer: &mut dyn Peer| {
                let mut question = Vec::new();
                peer.read_to_end(&mut question).expect("the end is carried over");
                assert_eq!(question, b"question", "{sides:?}");
                peer.write_all(b"an answer, long after").expect("the other way is open");
                peer.end();
            };
            let near = |_, peer: &mut dyn Peer| match client_first {
                true => first(peer),
                false => second(peer),
            };
            let far = |_, peer: &mut dyn Peer| match client_first {
                true => second(peer),
                false => first(peer),
            };
            let ended = between!(Net, sides, 1, RelayOptions::new(), near, far);
            assert!(ended[0].is_ok(), "{sides:?}: {ended:?}");
        }
    }
}

#[test]
fn a_reset_of_either_side_ends_the_relay() {
    for sides in sides() {
        for resets_near in [true, false] {
            let quits = |peer: &mut dyn Peer| {
                peer.write_all(b"half a").expect("the relay reads");
                peer.flush().expect("the relay reads");
                peer.read_exact(&mut [0; 4]).expect("the other speaks");
                let linger = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(peer.tcp(), linger).expect("TCP");
            };
            let stays = |peer: &mut dyn Peer| {
                peer.write_all(b"some").expect("the relay reads");
                peer.flush().expect("the relay reads");
                let mut all = Vec::new();
                let _ = peer.read_to_end(&mut all);
                assert_eq!(all, b"half a", "{sides:?}");
            };
            let near = |_, peer: &mut dyn Peer| match resets_near {
                true => quits(peer),
                false => stays(peer),
            };
            let far = |_, peer: &mut dyn Peer| match resets_near {
                true => stays(peer),
                false => quits(peer),
            };
            let ended = between!(Net, sides, 1, RelayOptions::new(), near, far);
            let failed = ended[0].expect_err("a reset is no end");
            assert!(failed.error.is_routine(), "{sides:?}: {failed}");
            let Relayed { a_to_b, b_to_a } = failed.relayed;
            assert_eq!((a_to_b.min(b_to_a), a_to_b.max(b_to_a)), (4, 6), "{sides:?}");
        }
    }
}

#[test]
fn a_quiet_relay_ends_after_its_idle_time() {
    let options = RelayOptions::new().idle_timeout(Duration::from_millis(60));
    for sides in sides() {
        // A handshake needs both to speak.
        let near = |_, peer: &mut dyn Peer| drop(peer.write(b"x").map(|_| peer.read(&mut [0])));
        let far = |_, peer: &mut dyn Peer| drop(peer.read_to_end(&mut Vec::new()));
        let ended = between!(Net, sides, 1, options, near, far);
        assert_eq!(ended[0].expect_err("nobody spoke").error, Error::TimedOut, "{sides:?}");
    }
}

#[test]
fn a_peer_that_reads_nothing_stops_its_sender_until_the_idle_time() {
    let options = RelayOptions::new().idle_timeout(Duration::from_millis(600));
    for sides in sides() {
        for idles_near in [true, false] {
            let over = std::sync::Barrier::new(2);
            let floods = |peer: &mut dyn Peer| {
                let bytes = [7; 65_536];
                let mut sent = 0_u64;
                while peer.write_all(&bytes).is_ok() {
                    sent += 65_536;
                    assert!(sent < 1 << 30, "{sides:?}: somebody takes all");
                }
                over.wait();
            };
            let idles = |peer: &mut dyn Peer| {
                // Its handshake is done with the first byte.
                let _ = peer.write(b"x");
                let _ = peer.flush();
                over.wait();
            };
            let near = |_, peer: &mut dyn Peer| if idles_near { idles(peer) } else { floods(peer) };
            let far = |_, peer: &mut dyn Peer| if idles_near { floods(peer) } else { idles(peer) };
            let ended = between!(Net, sides, 1, options, near, far);
            assert_eq!(ended[0].expect_err("it stands still").error, Error::TimedOut, "{sides:?}");
        }
    }
}

#[test]
fn with_four_buffers_neither_direction_starves() {
    let bytes = pattern(scaled(2 << 20));
    for sides in sides() {
        let near = |_, peer: &mut dyn Peer| ask(peer, &bytes, 200_000);
        let far = |_, peer: &mut dyn Peer| echo(peer);
        let ended = between!(Few, sides, 8, RelayOptions::new(), near, far);
        assert!(ended.iter().all(Result::is_ok), "{sides:?}: {ended:?}");
    }
}
