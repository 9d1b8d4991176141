//! The proxy as a program: real clients, real servers, every fault that either may have.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    HANG, Proxy, Server, config, ends, exchanges, file, name, pattern, program, refused, reset,
};
use rustix::process::Signal;

// ---- the way there ----

#[test]
fn bytes_go_through_whole_and_are_counted() {
    let a = Server::named("a");
    let proxy = Proxy::start(&config("", &[a.addr]));
    let mut client = proxy.client("web");
    assert_eq!(name(&mut client), 'a');
    let bytes = pattern(3 << 20);
    exchanges(&mut client, &bytes);
    drop(client);
    proxy.until("kio_proxy_clients", |n| n == 0);
    assert_eq!(proxy.count("kio_proxy_server_bytes_to_total"), 3 << 20);
    assert_eq!(proxy.count("kio_proxy_server_bytes_from_total"), (3 << 20) + 1);
    proxy.stop();
}

#[test]
fn segments_of_one_byte_go_through() {
    let a = Server::named("a");
    let proxy = Proxy::start(&config("", &[a.addr]));
    let mut client = proxy.client("web");
    assert_eq!(name(&mut client), 'a');
    for byte in pattern(2000) {
        client.write_all(&[byte]).expect("the proxy reads");
    }
    let mut back = vec![0; 2000];
    client.read_exact(&mut back).expect("they come back");
    assert_eq!(back, pattern(2000));
    drop(client);
    proxy.stop();
}

#[test]
fn servers_take_turns() {
    let servers = [Server::named("a"), Server::named("b"), Server::named("c")];
    let proxy = Proxy::start(&config("", &servers.each_ref().map(|server| server.addr)));
    let mut clients: Vec<TcpStream> = (0..60).map(|_| proxy.client("web")).collect();
    let names: String = clients.iter_mut().map(name).collect();
    for server in ['a', 'b', 'c'] {
        let n = names.matches(server).count();
        // Each worker has turns of its own.
        assert!((15..=25).contains(&n), "{server} had {n} of 60");
    }
    drop(clients);
    proxy.stop();
}

#[test]
fn a_client_comes_to_the_same_server_while_that_is_up() {
    let servers = [Server::named("a"), Server::named("b"), Server::named("c")];
    let addrs = servers.each_ref().map(|server| server.addr);
    let proxy = Proxy::start(&config("balance=client", &addrs));
    let first = name(&mut proxy.client("web"));
    for _ in 0..20 {
        assert_eq!(name(&mut proxy.client("web")), first);
    }
    proxy.stop();
}

#[test]
fn the_one_with_the_fewest_connections_is_next() {
    let servers = [Server::named("a"), Server::named("b")];
    let addrs = servers.each_ref().map(|server| server.addr);
    let proxy = Proxy::start(&config("balance=least", &addrs));
    let mut held: Vec<TcpStream> = (0..20).map(|_| proxy.client("web")).collect();
    let names: String = held.iter_mut().map(name).collect();
    let a = names.matches('a').count();
    assert!((8..=12).contains(&a), "a had {a} of 20");
    drop(held);
    proxy.stop();
}

// ---- servers at fault ----

#[test]
fn a_server_that_refuses_is_passed_over() {
    let a = Server::named("a");
    let proxy = Proxy::start(&config("", &[refused(), a.addr, refused()]));
    for _ in 0..12 {
        assert_eq!(name(&mut proxy.client("web")), 'a');
    }
    assert!(proxy.count("kio_proxy_retries_total") > 0);
    assert!(proxy.count("kio_proxy_server_failures_total") > 0);
    proxy.stop();
}

#[test]
fn a_server_that_hangs_in_connect_is_passed_over() {
    // Its backlog is full: what connects waits for ever.
    let hangs = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    rustix::net::bind(&hangs, &any).expect("a free port");
    rustix::net::listen(&hangs, 0).expect("it listens");
    let addr: SocketAddr =
        rustix::net::getsockname(&hangs).expect("bound").try_into().expect("an address");
    let _full: Vec<_> =
        (0..4).map(|_| TcpStream::connect_timeout(&addr, Duration::from_millis(50))).collect();
    let a = Server::named("a");
    let proxy = Proxy::start(&config("", &[addr, a.addr]));
    for _ in 0..4 {
        assert_eq!(name(&mut proxy.client("web")), 'a');
    }
    assert!(proxy.count("kio_proxy_retries_total") > 0);
    proxy.stop();
}

#[test]
fn no_more_servers_are_tried_than_is_said() {
    let a = Server::named("a");
    let servers = [refused(), refused(), refused(), a.addr];
    let proxy = Proxy::start(&config("retries=1", &servers));
    let mut given_up = 0;
    for _ in 0..8 {
        let mut client = proxy.client("web");
        given_up += u32::from(ends(&mut client));
    }
    assert!((2..=6).contains(&given_up), "{given_up} of 8 gave up after two refusals");
    proxy.stop();
}

#[test]
fn a_server_that_dies_in_the_middle_ends_its_clients() {
    let dies = Server::serving("127.0.0.1:0".parse().expect("an address"), |mut conn| {
        let _ = conn.write_all(b"half");
        let _ = conn.read_exact(&mut [0; 4]);
        reset(conn);
    });
    let proxy = Proxy::start(&config("", &[dies.addr]));
    for _ in 0..10 {
        let mut client = proxy.client("web");
        client.read_exact(&mut [0; 4]).expect("the first half");
        client.write_all(b"more").expect("the proxy reads");
        assert!(ends(&mut client));
    }
    proxy.until("kio_proxy_resets_total", |n| n == 10);
    proxy.stop();
}

#[test]
fn a_server_that_resets_at_once_harms_nobody_else() {
    let resets = Server::serving("127.0.0.1:0".parse().expect("an address"), reset);
    let a = Server::named("a");
    let proxy = Proxy::start(&config("", &[resets.addr, a.addr]));
    let mut good = 0;
    for _ in 0..40 {
        let mut byte = [0];
        good += u32::from(matches!(proxy.client("web").read(&mut byte), Ok(1)));
    }
    assert!(good >= 10, "{good} of 40");
    proxy.stop();
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_left_after_the_idle_time() {
    let silent = Server::serving("127.0.0.1:0".parse().expect("an address"), |mut conn| {
        let _ = conn.read_to_end(&mut Vec::new());
    });
    let text = config("", &[silent.addr]) + "idle-timeout 200ms\n";
    let proxy = Proxy::start(&text);
    let mut client = proxy.client("web");
    client.write_all(b"hello?").expect("the proxy reads");
    assert!(ends(&mut client));
    assert_eq!(proxy.count("kio_proxy_timeouts_total"), 1);
    proxy.stop();
}

#[test]
fn all_servers_go_down_and_come_back() {
    let addr = {
        let a = Server::named("a");
        let proxy_config = config("check=50ms rise=1 fall=2", &[a.addr]);
        let proxy = Proxy::start(&proxy_config);
        assert_eq!(name(&mut proxy.client("web")), 'a');
        let addr = a.addr;
        drop(a);
        proxy.says("is down");
        proxy.until("kio_proxy_server_up", |n| n == 0);
        assert!(ends(&mut proxy.client("web")));
        assert!(proxy.count("kio_proxy_no_server_total") > 0);
        let back = Server::at(addr, "b");
        proxy.says("is up");
        proxy.until("kio_proxy_server_up", |n| n > 0);
        // Each worker finds it by itself.
        let began = Instant::now();
        let mut good = 0;
        while good < 10 {
            assert!(began.elapsed() < HANG, "it does not come back");
            let mut byte = [0];
            good += u32::from(matches!(proxy.client("web").read(&mut byte), Ok(1)));
        }
        drop(back);
        proxy.until("kio_proxy_clients", |n| n == 0);
        drop(proxy);
        addr
    };
    assert_ne!(addr.port(), 0);
}

// ---- clients at fault ----

#[test]
fn a_client_that_never_reads_stops_its_server_alone() {
    let floods = Server::serving("127.0.0.1:0".parse().expect("an address"), |mut conn| {
        while conn.write_all(&[b'x'; 64 << 10]).is_ok() {}
    });
    let proxy = Proxy::start(&config("", &[floods.addr]));
    let deaf: Vec<TcpStream> = (0..8).map(|_| proxy.client("web")).collect();
    let mut reads = proxy.client("web");
    let mut left = 64 << 20;
    let mut bytes = vec![0; 1 << 20];
    while left > 0 {
        let n = reads.read(&mut bytes).expect("it flows");
        assert!(n > 0);
        left -= n.min(left);
    }
    // Before 6.18 the kernel knows no window: one enter may fill all that lies in the ring.
    let capped = kio::probe().expect("there is a ring").recv_cap;
    let peak = proxy.count("kio_buffers_in_use_peak");
    assert!(peak <= 10 * 16 || !capped, "{peak} of 9 windows of 16 buffers");
    drop((deaf, reads));
    proxy.stop();
}

#[test]
fn a_client_that_never_writes_ends_after_the_idle_time() {
    let silent = Server::serving("127.0.0.1:0".parse().expect("an address"), |mut conn| {
        let _ = conn.read_to_end(&mut Vec::new());
    });
    let proxy = Proxy::start(&(config("", &[silent.addr]) + "idle-timeout 100ms\n"));
    let mut clients: Vec<TcpStream> = (0..10).map(|_| proxy.client("web")).collect();
    assert!(clients.iter_mut().all(ends));
    assert_eq!(proxy.count("kio_proxy_timeouts_total"), 10);
    proxy.stop();
}

#[test]
fn clients_that_reset_leave_nothing_behind() {
    let a = Server::named("a");
    let proxy = Proxy::start(&config("", &[a.addr]));
    for nth in 0..60 {
        let mut client = proxy.client("web");
        if nth % 3 > 0 {
            assert_eq!(name(&mut client), 'a');
        }
        if nth % 3 > 1 {
            client.write_all(&[7; 100_000]).expect("the proxy reads");
        }
        reset(client);
    }
    proxy.stop();
}

// ---- room ----

#[test]
fn who_finds_no_room_waits_and_then_is_served() {
    let a = Server::named("a");
    let text = config("wait=20s", &[a.addr]).replace("\nserver", "\n# server")
        + &format!("server app {} max=1\n", a.addr);
    let proxy = Proxy::start(&text);
    // More than there are workers, so that some wait.
    let clients: Vec<TcpStream> = (0..20).map(|_| proxy.client("web")).collect();
    proxy.until("kio_proxy_waits_total", |n| n >= 10);
    assert!(proxy.count("kio_proxy_server_active") <= 4, "one a worker");
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                assert_eq!(name(&mut client), 'a');
                exchanges(&mut client, b"my turn");
            });
        }
    });
    assert_eq!(proxy.count("kio_proxy_wait_timeouts_total"), 0);
    proxy.stop();
}

#[test]
fn who_waits_too_long_is_let_go() {
    let a = Server::named("a");
    let text = config("wait=100ms", &[a.addr]).replace("\nserver", "\n# server")
        + &format!("server app {} max=1\n", a.addr);
    let proxy = Proxy::start(&text);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| proxy.client("web")).collect();
    proxy.until("kio_proxy_wait_timeouts_total", |n| n >= 16);
    let mut served = 0;
    for client in &mut clients {
        let mut byte = [0];
        served += u32::from(matches!(client.read(&mut byte), Ok(1)));
    }
    assert!((1..=4).contains(&served), "{served} had room");
    drop(clients);
    proxy.stop();
}

// ---- PROXY headers ----

/// A server that sends back all it got, once its client has ended.
fn recorder() -> Server {
    Server::serving("127.0.0.1:0".parse().expect("an address"), |mut conn| {
        let mut all = Vec::new();
        let _ = conn.read_to_end(&mut all);
        let _ = conn.write_all(&all);
    })
}

fn through(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let mut client = proxy.client("web");
    let _ = client.write_all(bytes);
    let _ = client.shutdown(Shutdown::Write);
    let mut back = Vec::new();
    let _ = client.read_to_end(&mut back);
    back
}

#[test]
fn a_server_is_told_who_the_client_is() {
    let server = recorder();
    let proxy = Proxy::start(&config("proxy-out=v1", &[server.addr]));
    let mut client = proxy.client("web");
    let from = client.local_addr().expect("bound");
    client.write_all(b"hello").expect("the proxy reads");
    client.shutdown(Shutdown::Write).expect("a connection");
    let mut back = String::new();
    client.read_to_string(&mut back).expect("text");
    let to = proxy.addr("web");
    let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", from.port(), to.port());
    assert_eq!(back, header);
    proxy.stop();
}

#[test]
fn headers_in_are_carried_to_headers_out() {
    let server = recorder();
    let text = config("proxy-out=v2", &[server.addr]).replace("to app", "to app proxy-in");
    let proxy = Proxy::start(&text);
    let v2: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x01\xbb";
    let wanted = [v2, b"payload"].concat();
    let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 443\r\npayload";
    for header in [&wanted[..], v1] {
        assert_eq!(through(&proxy, header), wanted);
        // Byte by byte it is the same.
        let mut client = proxy.client("web");
        for byte in header {
            client.write_all(&[*byte]).expect("the proxy reads");
        }
        client.shutdown(Shutdown::Write).expect("a connection");
        let mut back = Vec::new();
        client.read_to_end(&mut back).expect("an orderly end");
        assert_eq!(back, wanted);
    }
    proxy.stop();
}

#[test]
fn clients_with_wrong_headers_reach_no_server() {
    let server = recorder();
    let text =
        config("", &[server.addr]).replace("to app", "to app proxy-in") + "header-timeout 300ms\n";
    let proxy = Proxy::start(&text);
    let v2 = b"\r\n\r\n\0\r\nQUIT\n";
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 300]].concat();
    let wrong: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.1",                    // cut by the client's end
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\nx", // another family than it says
        b"PROXY TCP4 ::1 ::1 1 2\r\nx",
        &long,
        &[v2.as_slice(), b"\x21\x21\0\x0c123456789012x"].concat(), // too short for its family
        &[v2.as_slice(), b"\x21\x51\0\x0c123456789012x"].concat(), // a family that is none
        &[v2.as_slice(), b"\x21\x11\xff\xff"].concat(),            // too long
        b"",
    ];
    for bytes in wrong {
        assert_eq!(through(&proxy, bytes), b"", "{bytes:?}");
    }
    // One who says no more and does not end.
    let mut slow = proxy.client("web");
    slow.write_all(b"PROXY ").expect("the proxy reads");
    assert!(ends(&mut slow));
    assert_eq!(proxy.count("kio_proxy_wrong_headers_total"), 10);
    assert_eq!(proxy.count("kio_proxy_server_connections_total"), 0);
    proxy.stop();
}

// ---- configuration ----

#[test]
fn check_prints_the_footprint_and_judges_the_file() {
    let path = file();
    std::fs::write(&path, config("", &[refused()])).expect("a place for files");
    let good = program().arg("--check").arg(&path).output().expect("it runs");
    let text = String::from_utf8_lossy(&good.stdout);
    assert!(good.status.success() && text.contains("1 listeners, 1 groups, 1 servers: valid"));
    assert!(text.contains("KiB") || text.contains("MiB"), "{text}");
    std::fs::write(&path, "group app\nserver app nowhere\n").expect("a place for files");
    let bad = program().arg("--check").arg(&path).output().expect("it runs");
    let text = String::from_utf8_lossy(&bad.stderr);
    assert!(!bad.status.success());
    assert!(text.contains("line 2: `nowhere` is no address"), "{text}");
    std::fs::remove_file(&path).expect("it is there");
    let none = program().arg(&path).output().expect("it runs");
    assert!(!none.status.success());
}

#[test]
fn a_reload_changes_the_servers_and_keeps_the_connections() {
    let (a, b) = (Server::named("a"), Server::named("b"));
    let proxy = Proxy::start(&config("", &[a.addr]));
    let mut old = proxy.client("web");
    assert_eq!(name(&mut old), 'a');
    proxy.reload(&config("", &[b.addr]));
    assert_eq!(proxy.line(), "reloaded");
    for _ in 0..10 {
        assert_eq!(name(&mut proxy.client("web")), 'b');
    }
    exchanges(&mut old, b"still here");
    proxy.stop();
}

#[test]
fn a_bad_file_is_told_and_the_running_one_kept() {
    let a = Server::named("a");
    let good = config("", &[a.addr]);
    let proxy = Proxy::start(&good);
    for (bad, told) in [
        (good.clone() + "server app nowhere\n", "line 6: `nowhere` is no address"),
        (good.replace("group app", "grupp app"), "line 3: unknown statement `grupp`"),
        (good.replace("listen web 127.0.0.1:0", "listen web 127.0.0.1:1"), "cannot change"),
        (String::new(), "nothing listens"),
        ("x".repeat(70_000), "longer than"),
    ] {
        proxy.reload(&bad);
        proxy.says(told);
        assert_eq!(name(&mut proxy.client("web")), 'a');
    }
    proxy.until("kio_proxy_failed_reloads_total", |n| n == 5);
    std::fs::remove_file(&proxy.file).expect("it is there");
    proxy.signal(Signal::HUP);
    proxy.says("the running configuration is kept");
    proxy.reload(&good);
    assert_eq!(proxy.line(), "reloaded");
    proxy.stop();
}

// ---- the end ----

#[test]
fn a_drain_lets_clients_end_and_takes_no_new_ones() {
    let a = Server::named("a");
    let mut proxy = Proxy::start(&config("", &[a.addr]));
    let mut client = proxy.client("web");
    assert_eq!(name(&mut client), 'a');
    proxy.signal(Signal::TERM);
    let addr = proxy.addr("web");
    let began = Instant::now();
    while TcpStream::connect_timeout(&addr, HANG).is_ok() {
        assert!(began.elapsed() < HANG, "it still listens");
        thread::sleep(Duration::from_millis(5));
    }
    exchanges(&mut client, b"the last words");
    drop(client);
    let status = proxy.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
}

#[test]
fn a_second_signal_ends_the_drain() {
    let a = Server::named("a");
    let mut proxy = Proxy::start(&config("", &[a.addr]));
    let mut client = proxy.client("web");
    assert_eq!(name(&mut client), 'a');
    proxy.signal(Signal::TERM);
    let addr = proxy.addr("web");
    let began = Instant::now();
    while TcpStream::connect_timeout(&addr, HANG).is_ok() {
        assert!(began.elapsed() < HANG, "it still listens");
        thread::sleep(Duration::from_millis(5));
    }
    proxy.signal(Signal::TERM);
    let status = proxy.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert!(ends(&mut client));
}
