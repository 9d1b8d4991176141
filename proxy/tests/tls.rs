//! TLS on either side of the proxy: real clients and servers, and what may go wrong between them.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use common::tls::{Folder, any, chain, client, echo, end, named, pem_of, serving};
use common::{HANG, Proxy, Server, pattern, program, refused, tls};
use kio_tests::tls::{Authority, Choice, Identity, NAME, tls_over};
use rustls::StreamOwned;

/// As others have it, with time for a handshake on the slowest machine.
fn config(group: &str, servers: &[SocketAddr]) -> String {
    common::config(group, servers).replace("300ms", "5s")
}

/// An authority, a certificate of it for [`NAME`], and the words for both.
struct Names {
    folder: Folder,
    authority: Authority,
    identity: Identity,
    own: String,
    ca: String,
}

fn names() -> Names {
    let (folder, authority) = (Folder::new(), Authority::new());
    let identity = authority.issue(NAME);
    let own = folder.own("own", &identity);
    let ca = folder.ca("own", &authority);
    Names { folder, authority, identity, own, ca }
}

impl Names {
    /// The words of a group whose servers have TLS.
    fn group(&self, more: &str) -> String {
        format!("tls={NAME} {} {more}", self.ca)
    }

    /// A configuration whose listener has TLS.
    fn listens(&self, text: &str, more: &str) -> String {
        text.replace("to app", &format!("to app tls {} {more}", self.own))
    }
}

// ---- the way there ----

#[test]
fn a_tls_client_reaches_a_plain_server() {
    let names = names();
    let a = Server::named("a");
    let proxy = Proxy::start(&names.listens(&config("", &[a.addr]), ""));
    let mut conn = client(proxy.addr("web"), &names.authority);
    assert_eq!(tls::name(&mut conn), 'a');
    tls::exchanges(&mut conn, &pattern(3 << 20));
    proxy.until("kio_proxy_clients", |n| n == 0);
    assert_eq!(proxy.count("kio_proxy_server_bytes_to_total"), 3 << 20);
    assert_eq!(proxy.count("kio_proxy_handshakes_total"), 1);
    proxy.stop();
}

#[test]
fn a_plain_client_reaches_a_tls_server() {
    let names = names();
    let a = named("a", &names.identity);
    let proxy = Proxy::start(&config(&names.group(""), &[a.addr]));
    let mut conn = proxy.client("web");
    assert_eq!(common::name(&mut conn), 'a');
    common::exchanges(&mut conn, &pattern(3 << 20));
    proxy.until("kio_proxy_clients", |n| n == 0);
    assert_eq!(proxy.count("kio_proxy_server_bytes_to_total"), 3 << 20);
    proxy.stop();
}

#[test]
fn tls_ends_and_begins_again_on_the_way() {
    let names = names();
    let a = named("a", &names.identity);
    let proxy = Proxy::start(&names.listens(&config(&names.group(""), &[a.addr]), ""));
    for _ in 0..8 {
        let mut conn = client(proxy.addr("web"), &names.authority);
        assert_eq!(tls::name(&mut conn), 'a');
        tls::exchanges(&mut conn, &pattern(500_000));
    }
    assert_eq!(proxy.count("kio_proxy_resets_total"), 0);
    proxy.stop();
}

#[test]
fn each_version_and_cipher_is_carried() {
    let names = names();
    let a = Server::named("a");
    let proxy = Proxy::start(&names.listens(&config("", &[a.addr]), ""));
    for suite in kio_tests::tls::SUITES {
        let config = Arc::new(Choice::suite(suite).client(&names.authority));
        let mut conn = tls_over(proxy.client("web"), &config);
        assert_eq!(tls::name(&mut conn), 'a');
        tls::exchanges(&mut conn, &pattern(100_000));
    }
    proxy.stop();
}

/// Writes one byte at a time.
struct Drops(TcpStream);

impl Read for Drops {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Drops {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..1])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn records_in_segments_of_one_byte_go_through() {
    let names = names();
    let a = Server::named("a");
    let proxy = Proxy::start(&names.listens(&config("", &[a.addr]), ""));
    let client = tls_over(proxy.client("web"), &Arc::new(Choice::any().client(&names.authority)));
    let mut client = StreamOwned::new(client.conn, Drops(client.sock));
    assert_eq!(tls::name(&mut client), 'a');
    tls::exchanges(&mut client, &pattern(3000));
    proxy.stop();
}

#[test]
fn protocols_are_agreed_on_by_each_side_for_itself() {
    let names = names();
    let mut server = Choice::any().server(&names.identity);
    server.alpn_protocols = vec![b"two".to_vec()];
    let a = serving(server, |mut conn| {
        conn.conn.complete_io(&mut conn.sock).expect("a handshake");
        let chosen = conn.conn.alpn_protocol().unwrap_or(b"none").to_vec();
        let _ = conn.write_all(&chosen);
        end(&mut conn);
    });
    let text = names.listens(&config(&names.group("alpn=two"), &[a.addr]), "alpn=one,half");
    let proxy = Proxy::start(&text);
    let asks = |protocol: &[u8]| {
        let mut config = Choice::any().client(&names.authority);
        config.alpn_protocols = vec![protocol.to_vec()];
        let mut conn = tls_over(proxy.client("web"), &Arc::new(config));
        let mut said = String::new();
        conn.read_to_string(&mut said)
            .map(|_| (said, conn.conn.alpn_protocol().map(<[u8]>::to_vec)))
    };
    assert_eq!(asks(b"half").expect("a protocol"), ("two".into(), Some(b"half".to_vec())));
    assert!(asks(b"two").is_err(), "it is not the listener's");
    proxy.stop();
}

#[test]
fn both_sides_may_want_certificates() {
    let names = names();
    let others = Authority::new();
    let server = Choice::any().server_for_known(&names.identity, &names.authority);
    let a = serving(server, |conn| echo("a", conn));
    let text = config(&names.group(&names.own), &[a.addr]);
    let proxy = Proxy::start(&names.listens(&text, &names.ca));
    let with = |identity: Option<&Identity>| {
        let config = Choice::any().client_as(&names.authority, identity);
        tls_over(proxy.client("web"), &Arc::new(config))
    };
    let mut known = with(Some(&names.identity));
    assert_eq!(tls::name(&mut known), 'a');
    drop(known);
    assert!(tls::ends(&mut with(None)));
    assert!(tls::ends(&mut with(Some(&others.issue(NAME)))));
    proxy.until("kio_proxy_failed_handshakes_total", |n| n == 2);
    assert_eq!(proxy.count("kio_proxy_server_connections_total"), 1);
    proxy.stop();
}

// ---- PROXY headers ----

#[test]
fn headers_go_before_the_handshakes() {
    let names = names();
    let v2: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x01\xbb";
    let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 443\r\n";
    for (version, out) in [("v1", v1.as_slice()), ("v2", v2)] {
        let server = Arc::new(Choice::any().server(&names.identity));
        let a = Server::serving(any(), move |mut conn| {
            let mut header = vec![0; out.len()];
            conn.read_exact(&mut header).expect("the proxy introduces its client");
            assert_eq!(header, out);
            echo("a", tls::server_over(conn, &server));
        });
        let text = config(&names.group(&format!("proxy-out={version}")), &[a.addr]);
        let proxy = Proxy::start(&names.listens(&text, "proxy-in"));
        let config = Arc::new(Choice::any().client(&names.authority));
        for header in [v1.as_slice(), v2] {
            // At once with what follows, and byte by byte.
            for step in [header.len(), 1] {
                let mut conn = proxy.client("web");
                for part in header.chunks(step) {
                    conn.write_all(part).expect("the proxy reads");
                }
                let mut conn = tls_over(conn, &config);
                assert_eq!(tls::name(&mut conn), 'a');
                tls::exchanges(&mut conn, b"whose am I");
            }
        }
        // None, and a wrong one.
        assert!(tls::ends(&mut client(proxy.addr("web"), &names.authority)));
        let mut conn = proxy.client("web");
        conn.write_all(b"PROXY TCP4 ::1 ::1 1 2\r\n").expect("the proxy reads");
        assert!(tls::ends(&mut tls_over(conn, &config)));
        proxy.until("kio_proxy_wrong_headers_total", |n| n == 2);
        proxy.until("kio_proxy_handshakes_total", |n| n == 4);
        proxy.stop();
    }
}

// ---- clients at fault ----

#[test]
fn who_speaks_no_tls_reaches_no_server() {
    let names = names();
    let a = Server::named("a");
    let text = names.listens(&config("", &[a.addr]), "") + "header-timeout 300ms\n";
    let proxy = Proxy::start(&text);
    let cut = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    for bytes in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(), &[0xff; 4000], &cut, b""] {
        let mut conn = proxy.client("web");
        conn.write_all(bytes).expect("the proxy reads");
        conn.shutdown(Shutdown::Write).expect("a connection");
        let mut back = Vec::new();
        let _ = conn.read_to_end(&mut back);
        assert!(!back.contains(&b'a'), "{back:?}");
    }
    // Those who say a part, or nothing, and do not end.
    let mut slow = [proxy.client("web"), proxy.client("web")];
    slow[0].write_all(&cut).expect("the proxy reads");
    assert!(slow.iter_mut().all(common::ends));
    proxy.until("kio_proxy_failed_handshakes_total", |n| n == 6);
    assert_eq!(proxy.count("kio_proxy_server_connections_total"), 0);
    // And who resets in the middle.
    let mut conn = proxy.client("web");
    conn.write_all(&cut).expect("the proxy reads");
    common::reset(conn);
    proxy.until("kio_proxy_failed_handshakes_total", |n| n == 7);
    proxy.stop();
}

#[test]
fn a_client_cut_off_is_told_from_one_that_ends() {
    let names = names();
    let a = named("a", &names.identity);
    let proxy = Proxy::start(&names.listens(&config(&names.group(""), &[a.addr]), ""));
    let mut conn = client(proxy.addr("web"), &names.authority);
    assert_eq!(tls::name(&mut conn), 'a');
    // An end without close_notify: anyone on the way could have made it.
    conn.sock.shutdown(Shutdown::Write).expect("a connection");
    proxy.until("kio_proxy_resets_total", |n| n == 1);
    assert!(conn.read(&mut [0]).is_err(), "no orderly end");
    proxy.stop();
}

// ---- servers at fault ----

#[test]
fn a_server_of_another_name_or_authority_gets_no_client() {
    let names = names();
    let others = Authority::new();
    for (identity, told) in [
        (names.authority.issue("another.example"), "it is for other names"),
        (others.issue(NAME), "no trusted authority issued it"),
    ] {
        let wrong = named("x", &identity);
        let proxy = Proxy::start(&config(&names.group("check=1s fall=1"), &[wrong.addr]));
        proxy.says(told);
        let mut conn = proxy.client("web");
        assert!(common::ends(&mut conn));
        proxy.says("is down");
        proxy.until("kio_proxy_server_up", |n| n == 0);
        assert_eq!(proxy.count("kio_proxy_relays_total"), 0);
        assert!(proxy.count("kio_proxy_no_server_total") > 0);
        drop(conn);
        proxy.stop();
    }
}

#[test]
fn servers_whose_handshakes_fail_are_passed_over() {
    let names = names();
    let wrong = named("x", &Authority::new().issue(NAME));
    let plain = Server::serving(any(), |mut conn| {
        let _ = conn.write_all(b"220 this is no TLS\r\n");
        let _ = conn.read_to_end(&mut Vec::new());
    });
    let silent = Server::serving(any(), |mut conn| {
        let _ = conn.read_to_end(&mut Vec::new());
    });
    let ends = Server::serving(any(), drop);
    let a = named("a", &names.identity);
    let servers = [wrong.addr, plain.addr, silent.addr, ends.addr, refused(), a.addr];
    let text = config(&names.group("retries=6"), &servers).replace("5s", "1s");
    let proxy = Proxy::start(&text);
    for _ in 0..6 {
        assert_eq!(common::name(&mut proxy.client("web")), 'a');
    }
    assert!(proxy.count("kio_proxy_server_failures_total") >= 6);
    assert_eq!(proxy.count("kio_proxy_no_server_total"), 0);
    proxy.stop();
}

#[test]
fn checks_shake_hands() {
    let names = names();
    // It connects, which would do without TLS.
    let plain = Server::named("p");
    let proxy = Proxy::start(&config(&names.group("check=1s fall=1 rise=1"), &[plain.addr]));
    proxy.says("is down");
    let addr = plain.addr;
    drop(plain);
    let server = Arc::new(Choice::any().server(&names.identity));
    let right = Server::serving(addr, move |conn| echo("a", tls::server_over(conn, &server)));
    proxy.says("is up");
    proxy.until("kio_proxy_server_up", |n| n > 0);
    drop((proxy, right));
}

#[test]
fn a_server_that_is_cut_off_ends_no_tls_client_in_order() {
    let names = names();
    let dies = serving(Choice::any().server(&names.identity), |mut conn| {
        let _ = conn.write_all(b"half");
        let _ = conn.read_exact(&mut [0; 4]);
        // Without close_notify.
    });
    let proxy = Proxy::start(&names.listens(&config(&names.group(""), &[dies.addr]), ""));
    for _ in 0..10 {
        let mut conn = client(proxy.addr("web"), &names.authority);
        conn.read_exact(&mut [0; 4]).expect("the first half");
        conn.write_all(b"more").expect("the proxy reads");
        assert!(conn.read(&mut [0]).is_err(), "no orderly end");
    }
    proxy.until("kio_proxy_resets_total", |n| n == 10);
    proxy.stop();
}

// ---- configuration ----

#[test]
fn a_reload_brings_a_new_certificate_and_keeps_connections() {
    let names = names();
    let a = Server::named("a");
    let text = names.listens(&config("", &[a.addr]), "");
    let proxy = Proxy::start(&text);
    let mut old = client(proxy.addr("web"), &names.authority);
    assert_eq!(tls::name(&mut old), 'a');
    let next = Authority::new();
    names.folder.own("own", &next.issue(NAME));
    proxy.reload(&text);
    assert_eq!(proxy.line(), "reloaded");
    for _ in 0..6 {
        assert_eq!(tls::name(&mut client(proxy.addr("web"), &next)), 'a');
        assert!(tls::ends(&mut client(proxy.addr("web"), &names.authority)));
    }
    tls::exchanges(&mut old, b"still here");
    proxy.stop();
}

#[test]
fn what_is_wrong_with_files_is_told_by_line_and_cause() {
    let names = names();
    let folder = &names.folder;
    let a = Server::named("a");
    let good = names.listens(&config(&names.group(""), &[refused()]), "");
    let good =
        good + &format!("group plain\nlisten more 127.0.0.3:0 to plain\nserver plain {}\n", a.addr);
    let (cert, key) = (folder.path("own.pem"), folder.path("own.key"));
    let put = |name: &str, text: &str| folder.put(name, text);
    let other_key = put("other.key", &pem_of("PRIVATE KEY", names.authority.issue(NAME).key_der()));
    let text = put("text", "neither certificate nor key\n");
    let cut = put("cut", chain(&names.identity).split_at(200).0);
    let odd = put("odd", &pem_of("CERTIFICATE", b"no certificate"));
    let odd_key = put("odd.key", &pem_of("PRIVATE KEY", b"no key"));
    let locked = put("locked.key", &pem_of("ENCRYPTED PRIVATE KEY", b"whatever"));
    let long = put("long", &"x".repeat((1 << 20) + 1));
    let gone = folder.path("gone");
    let with = |what: &str, old: &str, new: &str| {
        good.replace(&format!("{what}={old}"), &format!("{what}={new}"))
    };
    let ca = names.ca.strip_prefix("ca=").expect("it is one");
    let table = &[
        (with("cert", &cert, &gone), 4, "No such file"),
        (with("key", &key, &gone), 4, "No such file"),
        (with("ca", ca, &gone), 3, "No such file"),
        (with("cert", &cert, &folder.path("")), 4, "Is a directory"),
        (with("cert", &cert, &text), 4, "it holds no certificate"),
        (with("cert", &cert, &key), 4, "it holds no certificate"),
        (with("cert", &cert, &cut), 4, "no PEM, or is cut"),
        (with("cert", &cert, &odd), 4, "a certificate in it is malformed"),
        (with("cert", &cert, &long), 4, "longer than 1 MiB"),
        (with("key", &key, &text), 4, "it holds no private key"),
        (with("key", &key, &cert), 4, "it holds no private key"),
        (with("key", &key, &locked), 4, "it holds no private key"),
        (with("key", &key, &odd_key), 4, "the key in it is malformed"),
        (with("key", &key, &other_key), 4, "it is not the key of the certificate"),
        (with("ca", ca, &key), 3, "it holds no certificate"),
        (with("ca", ca, &odd), 3, "a certificate in it is malformed"),
        (with("tls", NAME, "no_name!"), 3, "no host name"),
        (with("tls", NAME, ""), 3, "a name is missing"),
        (good.replace(&names.ca, ""), 3, "`ca=FILE`, whom to trust, is missing"),
        (good.replace(&format!("key={key}"), ""), 4, "`cert=` is of no use without `key=FILE`"),
        (good.replace(&names.own, "alpn=h2"), 4, "`cert=FILE key=FILE` is missing after `tls`"),
        (good.replace(&names.own, &format!("{} alpn=h2,,h3", names.own)), 4, "is no protocol"),
    ];
    let path = common::file();
    for (text, line, cause) in table {
        std::fs::write(&path, text).expect("a place for files");
        for options in [&["--check"][..], &[]] {
            let told = program().args(options).arg(&path).output().expect("it runs");
            let said = String::from_utf8_lossy(&told.stderr);
            assert!(!told.status.success(), "{cause}");
            assert!(said.contains(&format!("line {line}: ")) && said.contains(cause), "{said}");
        }
    }
    std::fs::remove_file(&path).expect("it is there");
    // As well on a reload, which keeps what runs.
    let proxy = Proxy::start(&good);
    for (text, line, cause) in table {
        proxy.reload(text);
        let said = proxy.says("the running configuration is kept");
        assert!(said.contains(&format!("line {line}: ")) && said.contains(cause), "{said}");
        assert_eq!(common::name(&mut proxy.client("more")), 'a');
    }
    proxy.until("kio_proxy_failed_reloads_total", |n| n == table.len() as u64);
    proxy.reload(&good.replace(&names.own, "").replace(" tls ", " "));
    proxy.says("cannot change while it runs");
    proxy.reload(&good);
    assert_eq!(proxy.line(), "reloaded");
    proxy.stop();
}

#[test]
fn check_tells_what_tls_costs() {
    let names = names();
    let path = common::file();
    let text = names.listens(&config("", &[refused()]), "");
    std::fs::write(&path, text).expect("a place for files");
    let told = program().arg("--check").arg(&path).output().expect("it runs");
    std::fs::remove_file(&path).expect("it is there");
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(
        told.status.success() && said.contains("heap") && said.contains("kernel TLS"),
        "{said}"
    );
}

#[test]
fn a_drain_lets_tls_clients_end() {
    let names = names();
    let a = Server::named("a");
    let mut proxy = Proxy::start(&names.listens(&config("", &[a.addr]), ""));
    let mut conn = client(proxy.addr("web"), &names.authority);
    assert_eq!(tls::name(&mut conn), 'a');
    proxy.signal(rustix::process::Signal::TERM);
    let addr = proxy.addr("web");
    let began = std::time::Instant::now();
    while TcpStream::connect_timeout(&addr, HANG).is_ok() {
        assert!(began.elapsed() < HANG, "it still listens");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    tls::exchanges(&mut conn, b"the last words");
    drop(conn);
    let status = proxy.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
}
