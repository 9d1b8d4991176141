//! What every server must do before its speed means anything. One test a claim, all servers in each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[cfg(not(feature = "peers"))]
const SERVERS: [&str; 5] = ["kio", "limit", "limit-hot", "epoll", "tokio"];
#[cfg(feature = "peers")]
const SERVERS: [&str; 9] =
    ["kio", "limit", "limit-hot", "epoll", "tokio", "monoio", "compio", "glommio", "tokio-uring"];
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(name: &str, workload: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kio-bench"))
            .args(["serve", name, "--workload", workload])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("stdout is piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let port = line.trim().strip_prefix("ready ").and_then(|p| p.parse().ok());
        Self { port: port.unwrap_or_else(|| panic!("{name}: {line}")), child }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket option");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).expect("all bytes come");
    assert!(got == bytes);
}

#[test]
fn a_request_in_parts_gets_one_reply() {
    for name in SERVERS {
        let server = Server::start(name, "http");
        let mut stream = server.connect();
        for cut in [1, REQUEST.len() - 3, REQUEST.len() - 1] {
            stream.write_all(&REQUEST[..cut]).unwrap();
            // Another connection's exchange, so that the first part is read on its own.
            let mut other = server.connect();
            other.write_all(REQUEST).unwrap();
            expect(&mut other, REPLY);
            stream.write_all(&REQUEST[cut..]).unwrap();
            expect(&mut stream, REPLY);
        }
    }
}

#[test]
fn pipelined_requests_are_all_answered() {
    for name in SERVERS {
        let server = Server::start(name, "http");
        let mut stream = server.connect();
        stream.write_all(&REQUEST.repeat(1000)).unwrap();
        expect(&mut stream, &REPLY.repeat(1000));
    }
}

#[test]
fn what_came_before_the_end_is_answered() {
    for name in SERVERS {
        let server = Server::start(name, "http");
        let mut stream = server.connect();
        stream.write_all(&REQUEST.repeat(3)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got == REPLY.repeat(3), "{name}");
    }
}

#[test]
fn echo_keeps_order_and_loses_nothing() {
    let sent: Vec<u8> = (0..4_000_000u32).map(|i| (i / 7) as u8).collect();
    for name in SERVERS {
        let server = Server::start(name, "echo");
        let mut stream = server.connect();
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&sent).unwrap());
            let mut got = vec![0; sent.len()];
            stream.read_exact(&mut got).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(got == sent, "{name}");
        });
    }
}

#[test]
fn close_answers_and_ends() {
    for name in SERVERS {
        let server = Server::start(name, "close");
        for _ in 0..100 {
            let mut stream = server.connect();
            stream.write_all(REQUEST).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert!(got == REPLY, "{name}");
        }
    }
}

#[test]
fn a_client_that_vanishes_harms_no_other() {
    for name in SERVERS {
        let server = Server::start(name, "echo");
        let mut stays = server.connect();
        for _ in 0..50 {
            let mut goes = server.connect();
            // Unread replies make the close a reset.
            goes.write_all(&[7; 100_000]).unwrap();
            drop(goes);
            stays.write_all(b"still here").unwrap();
            expect(&mut stays, b"still here");
        }
    }
}

#[test]
fn a_bounded_server_ends_itself_and_reports() {
    for name in SERVERS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kio-bench"));
        command
            .args(["serve", name, "--max-requests", "10"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().strip_prefix("ready ").unwrap().parse().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&REQUEST.repeat(10)).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{name}");
        let report = String::from_utf8(out.stderr).unwrap();
        assert!(
            report.starts_with("allocations=") && report.contains("requests=10"),
            "{name}: {report}"
        );
    }
}
