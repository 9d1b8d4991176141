//! The proxy under many connections, and under random kills for as long as `KIO_SOAK_SECONDS` says:
//! no byte is lost, doubled or swapped, and all it had taken comes back.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use common::refused;
use common::{HANG, Proxy, Server, config, patient, reset};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A row of numbers that looks like chance.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The byte at a place of a connection's stream.
fn byte(seed: u64, at: usize) -> u8 {
    ((seed as u32).wrapping_add(at as u32).wrapping_mul(2_654_435_761) >> 24) as u8
}

fn seconds() -> u64 {
    std::env::var("KIO_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn descriptors() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })
        .expect("up to the hard one");
}

/// Sends back what comes, and now and then dies: at once, in the middle, or with bytes unread.
fn moody(conn: TcpStream, mut random: Random) {
    let mut conn = patient(conn);
    let mood = random.below(10);
    let mut left = if mood < 2 { random.below(100_000) as usize } else { usize::MAX };
    let mut bytes = [0; 32 << 10];
    loop {
        if left == 0 {
            return if mood == 0 { reset(conn) } else { drop(conn) };
        }
        let most = bytes.len().min(left);
        match conn.read(&mut bytes[..most]) {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                left -= n.min(left);
                if conn.write_all(&bytes[..n]).is_err() {
                    return;
                }
            }
        }
    }
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    whole: AtomicU64,
    cut: AtomicU64,
    bytes: AtomicU64,
}

/// One connection through the proxy: what comes back is what went there, or a begin of it.
fn talk(addr: SocketAddr, random: &mut Random, seen: &Seen) {
    let Ok(conn) = TcpStream::connect_timeout(&addr, HANG) else { return };
    let mut conn = patient(conn);
    let seed = random.below(u64::MAX);
    let len = random.below(200_000) as usize;
    let kill = (random.below(6) == 0).then(|| random.below(len as u64 + 1) as usize);
    let tiny = random.below(8) == 0;
    let sent: Vec<u8> = (0..len).map(|at| byte(seed, at)).collect();
    let mut writer = conn.try_clone().expect("another handle");
    let mut back = Vec::new();
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            let begin = if tiny { 300.min(len) } else { 0 };
            for at in 0..begin {
                if writer.write_all(&sent[at..=at]).is_err() {
                    return;
                }
            }
            if writer.write_all(&sent[begin..]).is_ok() {
                let _ = writer.shutdown(Shutdown::Write);
            }
        });
        let mut bytes = [0; 16 << 10];
        loop {
            if kill.is_some_and(|kill| back.len() >= kill) {
                let _ = rustix::net::sockopt::set_socket_linger(&conn, Some(Duration::ZERO));
                let _ = conn.shutdown(Shutdown::Both);
                return false;
            }
            match conn.read(&mut bytes) {
                Ok(0) => return true,
                Ok(n) => back.extend_from_slice(&bytes[..n]),
                Err(_) => return false,
            }
        }
    });
    assert!(
        back.len() <= sent.len() && back == sent[..back.len()],
        "bytes were changed on the way"
    );
    if ended && back.len() == sent.len() {
        seen.whole.fetch_add(1, Ordering::Relaxed);
        seen.bytes.fetch_add(len as u64, Ordering::Relaxed);
    } else {
        seen.cut.fetch_add(1, Ordering::Relaxed);
    }
}

/// Three servers, each of which dies now and then.
fn moody_servers() -> [Server; 3] {
    let seeds = std::sync::Arc::new(AtomicU64::new(1));
    [(); 3].map(|()| {
        let seeds = seeds.clone();
        Server::serving("127.0.0.1:0".parse().expect("an address"), move |conn| {
            let seed = seeds.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed) | 1;
            moody(conn, Random(seed));
        })
    })
}

/// Ends the clients when dropped.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Talks with many clients at once, while the configuration changes: `next` makes another, of the
/// servers that stay.
fn soak(proxy: Proxy, servers: &[Server; 3], next: impl Fn(&[SocketAddr]) -> String) {
    let addrs = servers.each_ref().map(|server| server.addr);
    let addr = proxy.addr("web");
    let seen = Seen::default();
    let stop = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs(seconds());
    thread::scope(|scope| {
        // Whatever goes wrong here, the clients end too.
        let _stops = Stops(&stop);
        for nth in 0..12 {
            let (seen, stop) = (&seen, &stop);
            scope.spawn(move || {
                let mut random = Random(0xDEAD_BEEF + nth * 7919);
                while !stop.load(Ordering::Relaxed) {
                    talk(addr, &mut random, seen);
                }
            });
        }
        // Servers go from the configuration and come back, under all that.
        let mut random = Random(42);
        // On a slow machine until enough has happened.
        let few =
            || seen.whole.load(Ordering::Relaxed) <= 20 || seen.cut.load(Ordering::Relaxed) <= 5;
        while Instant::now() < until || (few() && Instant::now() < until + HANG) {
            let keep = random.below(3) as usize;
            let some = [addrs[keep], addrs[(keep + 1) % 3]];
            let named = if random.below(2) == 0 { &some[..] } else { &addrs[..] };
            // Port 0 was asked for, and is what the file says still.
            proxy.reload(&next(named));
            assert_eq!(proxy.line(), "reloaded");
            thread::sleep(Duration::from_millis(300));
        }
    });
    let (whole, cut) = (seen.whole.load(Ordering::Relaxed), seen.cut.load(Ordering::Relaxed));
    let bytes = seen.bytes.load(Ordering::Relaxed);
    println!("{whole} connections whole, {cut} cut, {bytes} bytes there and back");
    assert!(whole > 20 && cut > 5, "{whole} whole, {cut} cut");
    assert!(proxy.count("kio_proxy_bytes_to_total") >= bytes);
    assert!(proxy.count("kio_proxy_bytes_from_total") >= bytes);
    proxy.until("kio_proxy_clients", |n| n == 0);
    proxy.until("kio_connections", |n| n <= 1);
    // The page's own two or three.
    proxy.until("kio_buffers_in_use", |n| n <= 3);
    proxy.stop();
}

#[test]
fn random_kills_lose_no_byte_and_leave_nothing_held() {
    let servers = moody_servers();
    let next = |addrs: &[SocketAddr]| config("balance=least check=200ms", addrs);
    let proxy = Proxy::start(&next(&servers.each_ref().map(|server| server.addr)));
    soak(proxy, &servers, next);
}

/// Each connection goes through the proxy three times, by each pairing there is: from plain to TLS, from
/// TLS to TLS, and from TLS to plain. Certificates change under all that.
#[cfg(feature = "tls")]
#[test]
fn random_kills_under_tls_lose_no_byte_and_leave_nothing_held() {
    use common::tls::Folder;
    use kio_tests::tls::{Authority, NAME};

    let servers = moody_servers();
    let (folder, authority) = (Folder::new(), Authority::new());
    let own = folder.own("own", &authority.issue(NAME));
    let to_tls = format!("tls={NAME} {}", folder.ca("own", &authority));
    let text = |addrs: &[SocketAddr], middle: SocketAddr, inner: SocketAddr| {
        let servers = addrs.iter().map(|addr| format!("server app {addr}\n"));
        format!(
            "metrics 127.0.0.2:0\nconnect-timeout 5s\n\
             group first {to_tls}\ngroup second {to_tls} balance=client\n\
             group app balance=least check=200ms\n\
             listen web 127.0.0.1:0 to first\n\
             listen middle 127.0.0.3:0 to second tls {own}\n\
             listen inner 127.0.0.4:0 to app tls {own}\n\
             server first {middle}\nserver second {inner}\n{}",
            servers.collect::<String>()
        )
    };
    let addrs = servers.each_ref().map(|server| server.addr);
    // Where it listens is not known before.
    let proxy = Proxy::start(&text(&addrs, refused(), refused()));
    let (middle, inner) = (proxy.addr("middle"), proxy.addr("inner"));
    proxy.reload(&text(&addrs, middle, inner));
    assert_eq!(proxy.line(), "reloaded");
    soak(proxy, &servers, |addrs| {
        folder.own("own", &authority.issue(NAME));
        text(addrs, middle, inner)
    });
}

#[test]
fn connections_in_waves_are_all_served() {
    // 20,000 in waves of 8,000 with KIO_TEST_FULL: as many descriptors twice.
    let full = std::env::var_os("KIO_TEST_FULL").is_some();
    let (all, wave) = if full { (20_000, 8_000) } else { (3_000, 1_200) };
    descriptors();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // The standard library's backlog is 128: past it the system drops what comes.
    rustix::net::listen(&listener, 4096).expect("it listens already");
    let addr = listener.local_addr().expect("bound");
    let proxy = Proxy::start(&config("wait=30s", &[addr]).replace("300ms", "20s"));
    let web = proxy.addr("web");
    let mut left = all;
    while left > 0 {
        let now = left.min(wave);
        thread::scope(|scope| {
            let servers = scope.spawn(|| {
                let greet = |_| {
                    let (mut conn, _) = listener.accept().expect("the proxy connects");
                    conn.write_all(b"!").expect("the proxy reads");
                    conn
                };
                (0..now).map(greet).collect::<Vec<_>>()
            });
            let connect = |_| patient(TcpStream::connect_timeout(&web, HANG).expect("it listens"));
            let mut clients: Vec<TcpStream> = (0..now).map(connect).collect();
            for client in &mut clients {
                client.read_exact(&mut [0]).expect("each is served");
            }
            let servers = servers.join().expect("as many come");
            // One half ends in order, the other does not.
            for (nth, client) in clients.into_iter().enumerate() {
                if nth % 2 == 0 { reset(client) } else { drop(client) }
            }
            drop(servers);
        });
        proxy.until("kio_proxy_clients", |n| n == 0);
        left -= now;
    }
    assert_eq!(proxy.count("kio_proxy_relays_total"), all as u64);
    assert_eq!(proxy.count("kio_proxy_no_server_total"), 0);
    proxy.stop();
}
