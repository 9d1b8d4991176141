//! The examples, run as their readers run them: each a process of its own, with a client outside.
//!
//! `cargo test` of the workspace builds them beside the tests. Where one is missing (`cargo test -p
//! kio-tests` alone builds none), its tests say that they were skipped.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kio_tests::{HANG, client};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use rustix::process::{Pid, Signal, kill_process};

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nHello from kio.\n";

/// An example that serves. Dropped, it is killed.
struct Server {
    child: Child,
    addr: SocketAddr,
}

/// Where `cargo test` has built the example, if it has.
fn built(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test is a program");
    let path = test.parent()?.parent()?.join("examples").join(name);
    if !path.exists() {
        println!("skipped: {} is not built", path.display());
        return None;
    }
    Some(path)
}

impl Server {
    /// Runs the example on a free port and waits until it listens.
    fn start(name: &str) -> Option<Self> {
        let path = built(name)?;
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = free.local_addr().expect("a bound socket");
        drop(free);
        let mut command = Command::new(path);
        command.arg(addr.to_string()).stdout(Stdio::piped());
        let mut server = Self { child: command.spawn().expect("the example runs"), addr };
        let mut greeting = String::new();
        let stdout = server.child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut greeting).expect("the example speaks");
        assert!(greeting.contains(&addr.to_string()), "it tells where it listens: {greeting:?}");
        // Most speak just before they listen, and nothing tells when they do: ask.
        let began = Instant::now();
        while TcpStream::connect(addr).is_err() {
            let ended = server.child.try_wait().expect("a child");
            assert!(ended.is_none() && began.elapsed() < HANG, "{name} does not listen: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }

    /// Asks it to stop, as Ctrl-C does, and tells whether it ended in order.
    fn stops(mut self) -> bool {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(pid, Signal::INT).expect("it runs");
        self.child.wait().expect("a child").success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that comes until the peer closes; it must close in order.
fn read_all(mut client: &TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).expect("text, and an end in order");
    text
}

fn read_exactly(mut client: &TcpStream, len: usize) -> String {
    let mut bytes = vec![0; len];
    client.read_exact(&mut bytes).expect("so many bytes");
    String::from_utf8(bytes).expect("text")
}

/// What is answered to these bytes until the connection closes.
fn asked(addr: SocketAddr, request: &[u8]) -> String {
    let mut client = client(addr);
    client.write_all(request).expect("the server reads");
    read_all(&client)
}

#[test]
fn hello_answers_requests_in_parts_and_many_at_once() {
    let Some(hello) = Server::start("hello") else { return };
    let mut client = client(hello.addr);
    for part in ["GET", " / HTTP/1.1\r\nHo", "st: kio\r\n\r", "\nGET / HTTP/1.1\r\n"] {
        client.write_all(part.as_bytes()).expect("the server reads");
    }
    assert_eq!(read_exactly(&client, HELLO.len()), HELLO);
    client.write_all(b"\r\n").expect("the server reads");
    assert_eq!(read_exactly(&client, HELLO.len()), HELLO);
    client.write_all(&b"GET / HTTP/1.1\r\n\r\n".repeat(200)).expect("the server reads");
    assert_eq!(read_exactly(&client, 200 * HELLO.len()), HELLO.repeat(200));
    client
        .write_all(b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nconnection: Close\r\n\r\n")
        .expect("");
    let last = read_all(&client);
    assert!(
        last.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nHTTP/1.1 200 OK\r\nConn")
    );
    assert!(last.ends_with("\r\n\r\nHello from kio.\n"), "{last:?}");
    assert!(asked(hello.addr, b"GET / HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nHello from kio.\n"));
}

#[test]
fn hello_refuses_what_it_does_not_take_and_closes() {
    let Some(hello) = Server::start("hello") else { return };
    for bad in
        ["\0\r\n\r\n", "POST / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n1"]
    {
        let reply = asked(hello.addr, bad.as_bytes());
        assert!(reply.starts_with("HTTP/1.1 400 "), "{bad:?}: {reply:?}");
    }
    // Larger than a buffer; the rest is read, or the reply would be destroyed by a reset.
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    for long in [long, many] {
        let reply = asked(hello.addr, long.as_bytes());
        assert!(reply.starts_with("HTTP/1.1 431 "), "{reply:?}");
    }
}

#[test]
fn hello_stops_in_order_while_connections_are_idle() {
    let Some(hello) = Server::start("hello") else { return };
    let mut client = client(hello.addr);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the server reads");
    assert_eq!(read_exactly(&client, HELLO.len()), HELLO);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| hello.stops());
        assert_eq!(read_all(&client), "");
        drop(client);
        assert!(stopping.join().expect("no panic"));
    });
}

#[test]
fn echo_sends_back_what_came() {
    let Some(echo) = Server::start("echo") else { return };
    let mut client = client(echo.addr);
    let sent = "to and fro\n".repeat(10_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(sent.as_bytes()).expect("the server reads");
        });
        assert!(read_exactly(&client, sent.len()) == sent);
    });
    client.write_all(b"last").expect("the server reads");
    client.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(read_all(&client), "last");
    assert!(echo.stops());
}

#[test]
fn chat_passes_lines_to_all_others() {
    let Some(chat) = Server::start("chat") else { return };
    let [mut a, mut b, c] = [(); 3].map(|()| client(chat.addr));
    // Who speaks before the others are in is not heard by them: say it until it is.
    for heard in [&b, &c] {
        heard.set_read_timeout(Some(Duration::from_millis(10))).expect("above zero");
        let mut byte = [0; 1];
        while matches!(heard.peek(&mut byte), Err(e) if e.kind() == ErrorKind::WouldBlock) {
            a.write_all(b"hel").expect("the server reads");
            a.write_all(b"lo\n").expect("the server reads");
        }
        heard.set_read_timeout(Some(HANG)).expect("above zero");
    }
    b.write_all(b"last\n").expect("the server reads");
    let mut lines = BufReader::new(&c).lines().map(|line| line.expect("text"));
    let said = |line: &String| line.split_once(": ").is_some_and(|(_, text)| text == "hello");
    let other = lines.find(|line| !said(line)).expect("the connection stays");
    assert!(other.ends_with(": last"), "{other}");
    assert!(chat.stops());
}

#[test]
fn chat_puts_out_who_does_not_read_and_the_others_hear_all() {
    let Some(chat) = Server::start("chat") else { return };
    let mut speaker = client(chat.addr);
    let deaf = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&deaf, 4096).expect("a size");
    connect(&deaf, &chat.addr).expect("the chat listens");
    let hearer = client(chat.addr);
    // All three are in once the last hears the first.
    hearer.set_read_timeout(Some(Duration::from_millis(10))).expect("above zero");
    let mut byte = [0; 1];
    while matches!(hearer.peek(&mut byte), Err(e) if e.kind() == ErrorKind::WouldBlock) {
        speaker.write_all(b"hello\n").expect("the server reads");
    }
    hearer.set_read_timeout(Some(HANG)).expect("above zero");
    // More than the system keeps for one that does not read.
    let line = format!("{}\n", "x".repeat(4000));
    let count = 1600;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..count).for_each(|_| speaker.write_all(line.as_bytes()).expect("it reads"))
        });
        let long = BufReader::new(&hearer).lines().map_while(Result::ok).filter(|l| l.len() > 4000);
        assert_eq!(long.take(count).count(), count);
    });
    let mut deaf = TcpStream::from(deaf);
    deaf.set_read_timeout(Some(HANG)).expect("above zero");
    let mut heard = 0;
    let mut bytes = vec![0; 1 << 16];
    let end = loop {
        match deaf.read(&mut bytes) {
            Ok(0) => break None,
            Ok(n) => heard += n,
            Err(error) => break Some(error.kind()),
        }
    };
    assert!(matches!(end, None | Some(ErrorKind::ConnectionReset)), "{end:?} after {heard} bytes");
    assert!(heard < count * line.len(), "{heard}");
}

#[test]
fn slow_answers_in_time_and_cuts_off_who_is_not() {
    let Some(slow) = Server::start("slow") else { return };
    let mut quick = client(slow.addr);
    quick.write_all(b"one\ntwo\nthr").expect("the server reads");
    assert_eq!(read_exactly(&quick, 8), "one\ntwo\n");
    quick.write_all(b"ee\n").expect("the server reads");
    assert_eq!(read_exactly(&quick, 6), "three\n");
    let mut late = client(slow.addr);
    late.set_read_timeout(Some(Duration::from_millis(500))).expect("above zero");
    let (began, mut answer) = (Instant::now(), [0; 64]);
    let len = loop {
        late.write_all(b"x").expect("it is not cut off without a word");
        match late.read(&mut answer) {
            Ok(len) => break len,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(began.elapsed() < HANG, "pieces must not make the time longer");
    };
    assert_eq!(&answer[..len], b"too slow\n");
    assert!(began.elapsed() > Duration::from_millis(4900));
    assert!(slow.stops());
}

#[test]
fn footprint_prints_both_tables() {
    let Some(path) = built("footprint") else { return };
    let output = Command::new(path).output().expect("the example runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success());
    for word in ["buffers ", "statics (.bss)", "total ", "locked memory", "deferred task work"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

#[test]
fn an_address_that_is_none_is_refused_with_a_word_of_help() {
    for name in ["hello", "echo", "chat", "slow"] {
        let Some(path) = built(name) else { continue };
        let output = Command::new(path).arg("localhost").output().expect("the example runs");
        assert_eq!(output.status.code(), Some(1), "{name}");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(text.contains("127.0.0.1:80"), "{name}: {text}");
    }
}
