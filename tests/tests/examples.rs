//! The examples, run as their readers run them: each a process of its own, with a client outside.
//!
//! `cargo test` of the workspace builds them beside the tests. Where one is missing (`cargo test -p
//! kio-tests` alone builds none), its tests say that they were skipped.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kio_tests::{HANG, client, pattern, scaled};
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
        Self::start_with(name, &[])
    }

    /// The same, with arguments behind the address.
    fn start_with(name: &str, args: &[&Path]) -> Option<Self> {
        let path = built(name)?;
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = free.local_addr().expect("a bound socket");
        drop(free);
        let mut command = Command::new(path);
        command.arg(addr.to_string()).args(args).stdout(Stdio::piped());
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

    /// Kills it, as a crash of the process would.
    fn killed(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
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

/// A directory of its own, gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let base = std::env::var_os("KIO_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = base.join(format!("kio-examples-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a temporary directory");
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every path below a directory, with what is there: bytes, a link's text, or nothing of a directory.
fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let kind = path.symlink_metadata().expect("it is there").file_type();
            let bytes = if kind.is_symlink() {
                fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
            } else if kind.is_dir() {
                left.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).expect("a file")
            };
            found.push((path.strip_prefix(root).expect("below").to_owned(), bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn files_copies_a_tree_as_it_is() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let Some(files) = built("files") else { return };
    let dir = Dir::new("tree");
    let (from, to) = (dir.0.join("from"), dir.0.join("to"));
    fs::create_dir_all(from.join("a/b/c/d")).expect("makes directories");
    fs::create_dir(from.join("empty")).expect("makes a directory");
    let block = 256 << 10; // a buffer
    for (i, len) in [0, 1, 511, 4096, 4097, block - 1, block, block + 1, 5 * block + 333]
        .into_iter()
        .enumerate()
    {
        fs::write(from.join(format!("a/{i}")), pattern(len)).expect("writes");
        fs::write(from.join(format!("a/b/c/d/{i}")), &pattern(len + 1)[1..]).expect("writes");
    }
    for i in 0..scaled(200) {
        fs::write(from.join(format!("many-{i}")), vec![i as u8; i]).expect("writes");
    }
    symlink("a/nowhere", from.join("link")).expect("links");
    fs::set_permissions(from.join("a/1"), fs::Permissions::from_mode(0o755)).expect("sets");
    let output = Command::new(&files).args([&from, &to]).output().expect("the example runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains(" KiB"), "{told}");
    assert!(tree(&from) == tree(&to), "all is there, and no more");
    assert_eq!(fs::metadata(to.join("a/1")).expect("stat").permissions().mode() & 0o111, 0o111);
    // What is there is never written over.
    let again = Command::new(&files).args([&from, &to]).output().expect("the example runs");
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(1) && told.contains("File exists"), "{told}");
}

#[test]
fn files_tells_which_path_it_cannot_copy() {
    let Some(files) = built("files") else { return };
    let dir = Dir::new("missing");
    let run = |from: &Path, to: &Path| {
        let output = Command::new(&files).args([from, to]).output().expect("the example runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("text")
    };
    let missing = dir.0.join("missing");
    let told = run(&missing, &dir.0.join("to"));
    assert!(told.contains(&format!("{}: open: No such file", missing.display())), "{told}");
    assert!(!dir.0.join("to").exists());
    assert!(run(&dir.0, &dir.0.join("within")).contains("not in FROM"));
    // Nor by another name of it: the copy would have no end.
    let link = std::env::temp_dir().join(format!("kio-link-{}", std::process::id()));
    std::os::unix::fs::symlink(&dir.0, &link).expect("links");
    let told = run(&dir.0, &link.join("within"));
    fs::remove_file(&link).expect("it is there");
    assert!(told.contains("not in FROM"), "{told}");
    assert!(run(Path::new(""), Path::new("")).contains("FROM"));
}

#[test]
fn log_has_every_answered_record_after_a_kill() {
    let dir = Dir::new("log");
    let (writers, each) = (8, scaled(300));
    let Some(log) = Server::start_with("log", &[&dir.0]) else { return };
    let addr = log.addr;
    let answered = std::sync::Mutex::new(Vec::new());
    let enough = std::sync::Barrier::new(writers + 1);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (answered, enough) = (&answered, &enough);
            scope.spawn(move || {
                // Two logs, whose owners may be two workers; each has writers on all.
                let client = client(addr);
                writeln!(&client, "log{}", writer % 2).expect("the server reads");
                let mut answers = BufReader::new(&client).lines();
                let mut last = 0;
                for i in 0.. {
                    if i == each {
                        enough.wait();
                    }
                    let (a, b) = (format!("{writer} {i} a"), format!("{writer} {i} b"));
                    if (&client).write_all(format!("{a}\n{b}\n").as_bytes()).is_err() {
                        break;
                    }
                    while last < 2 * (i + 1) {
                        let Some(Ok(answer)) = answers.next() else { return };
                        last = answer.parse().expect("a number");
                    }
                    answered.lock().expect("no panic").extend([(writer % 2, a), (writer % 2, b)]);
                }
            });
        }
        enough.wait(); // all of them write on meanwhile
        log.killed();
    });
    // What a crash in the middle of an append leaves: a part of a record, and zeros.
    for name in ["log0.log", "log1.log"] {
        let mut file =
            fs::OpenOptions::new().append(true).open(dir.0.join(name)).expect("it is there");
        file.write_all(b"\n0123abcd half a rec").expect("writes");
        file.write_all(&[0; 20_000]).expect("writes");
    }
    let log = Server::start_with("log", &[&dir.0]).expect("it is built");
    let mut replayed = Vec::new();
    for which in 0..2 {
        let client = client(log.addr);
        writeln!(&client, "log{which}\nafter\n").expect("the server reads");
        let mut lines = BufReader::new(&client).lines().map(|line| line.expect("text"));
        let records = lines.by_ref().take_while(|line| line != "after");
        replayed.extend(records.map(|line| (which, line)));
        assert_eq!(lines.next().as_deref(), Some("1"), "and what is new is kept behind it");
    }
    let answered = answered.into_inner().expect("no panic");
    assert!(answered.len() >= 2 * writers * each);
    let mut known = std::collections::HashSet::new();
    assert!(replayed.iter().all(|record| known.insert(record)), "none twice");
    let lost: Vec<_> = answered.iter().filter(|record| !known.contains(record)).collect();
    assert!(lost.is_empty(), "{} of {}: {:?}", lost.len(), answered.len(), lost.first());
    assert!(log.stops());
}

#[test]
fn log_refuses_a_name_that_could_leave_its_directory() {
    let dir = Dir::new("names");
    let Some(log) = Server::start_with("log", &[&dir.0]) else { return };
    for name in ["../up\nx\n", "a/b\nx\n", "\n"] {
        assert_eq!(asked(log.addr, name.as_bytes()), "", "{name:?}");
    }
    assert!(tree(&dir.0).is_empty());
}

/// A reply's status line and headers, and its body as long as they say.
fn reply(client: &mut BufReader<&TcpStream>, method: &str) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(client.read_line(&mut head).expect("text") > 0, "a whole head: {head:?}");
    }
    let len = head.split_once("Content-Length: ").expect("a length").1;
    let len = len.split_once('\r').expect("an end").0.parse().expect("a number");
    let mut body = vec![0; if method == "HEAD" { 0 } else { len }];
    client.read_exact(&mut body).expect("a whole body");
    (head, body)
}

#[test]
fn static_files_serves_wholes_and_ranges_on_one_connection() {
    let dir = Dir::new("ranges");
    let Some(site) = Server::start_with("static_files", &[&dir.0]) else { return };
    let bytes = pattern(300_000);
    fs::write(dir.0.join("a"), &bytes).expect("writes");
    fs::write(dir.0.join("index.html"), b"front").expect("writes");
    fs::write(dir.0.join("empty"), b"").expect("writes");
    fs::create_dir(dir.0.join("sub")).expect("makes");
    let client = client(site.addr);
    let mut replies = BufReader::new(&client);
    let mut ask = |method: &str, path: &str, header: &str| {
        write!(&client, "{method} {path} HTTP/1.1\r\n{header}\r\n").expect("the server reads");
        reply(&mut replies, method)
    };
    let (head, body) = ask("GET", "/a", "");
    assert!(head.starts_with("HTTP/1.1 200 ") && body == bytes, "{head}");
    assert!(ask("GET", "/", "").1 == b"front");
    let (head, body) = ask("HEAD", "/a?query", "Range: bytes=0-1\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Length: 300000\r"), "{head}");
    assert!(body.is_empty());
    for (range, wanted) in [
        ("0-0", 0..1),
        ("100-200000", 100..200_001),
        ("299999-", 299_999..300_000),
        ("7-", 7..300_000),
        ("-1", 299_999..300_000),
        ("-100000", 200_000..300_000),
        ("-999999999", 0..300_000),
        ("299990-18446744073709551615", 299_990..300_000),
    ] {
        let (head, body) = ask("GET", "/a", &format!("Range: bytes={range}\r\n"));
        assert!(head.starts_with("HTTP/1.1 206 "), "{range}: {head}");
        let told = format!("Content-Range: bytes {}-{}/300000\r\n", wanted.start, wanted.end - 1);
        assert!(head.contains(&told) && body == bytes[wanted], "{range}: {head}");
    }
    for (path, range) in
        [("/a", "300000-"), ("/a", "-0"), ("/a", "999999-9999999"), ("/empty", "0-")]
    {
        let (head, _) = ask("GET", path, &format!("Range: bytes={range}\r\n"));
        assert!(head.starts_with("HTTP/1.1 416 "), "{range}: {head}");
        assert!(head.contains("Content-Range: bytes */"), "{head}");
    }
    for other in ["bytes=5-3", "bytes=0-1,3-4", "bytes=x-", "lines=0-1"] {
        let (head, body) = ask("GET", "/a", &format!("Range: {other}\r\n"));
        assert!(head.starts_with("HTTP/1.1 200 ") && body == bytes, "{other}: {head}");
    }
    for path in ["/missing", "/sub", "/a/b", "/sub/"] {
        let (head, _) = ask("GET", path, "");
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
    }
    assert!(ask("GET", "/empty", "").1.is_empty());
    assert!(ask("GET", "/a", "").1 == bytes, "and the connection is still there");
}

#[test]
fn static_files_stays_below_its_root() {
    let dir = Dir::new("root");
    let root = dir.0.join("root");
    fs::create_dir(&root).expect("makes");
    fs::write(dir.0.join("secret"), b"secret").expect("writes");
    let Some(site) = Server::start_with("static_files", &[&root]) else { return };
    let absolute = dir.0.join("secret");
    let paths = ["/../secret", "/x/../../secret", "//../secret", "..", "/..", "/%2e%2e/secret"];
    for path in paths.into_iter().chain(absolute.to_str()) {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        let reply = asked(site.addr, request.as_bytes());
        assert!(reply.starts_with("HTTP/1.1 4"), "{path}: {reply}");
    }
}

#[test]
fn a_file_that_changes_meanwhile_ends_a_connection_and_not_the_server() {
    let dir = Dir::new("changes");
    let Some(site) = Server::start_with("static_files", &[&dir.0]) else { return };
    // More than the system keeps for a client that does not read.
    let len = 64 << 20;
    let file = fs::File::create(dir.0.join("a")).expect("makes");
    for (becomes, whole) in [(len + 1000, true), (1000, false)] {
        file.set_len(len).expect("sets");
        let client = client(site.addr);
        (&client).write_all(b"GET /a HTTP/1.1\r\n\r\n").expect("the server reads");
        // The head is here, so the length is settled.
        let mut replies = BufReader::new(&client);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(replies.read_line(&mut head).expect("text") > 0, "a whole head");
        }
        assert!(head.contains(&format!("Content-Length: {len}\r\n")), "{head}");
        file.set_len(becomes).expect("sets");
        let got = std::io::copy(&mut replies.by_ref().take(len), &mut std::io::sink());
        if whole {
            assert_eq!(got.expect("reads"), len, "what was promised, and no more");
            (&client).write_all(b"HEAD /a HTTP/1.1\r\n\r\n").expect("the server reads");
            let (head, _) = reply(&mut replies, "HEAD");
            assert!(head.contains(&format!("Content-Length: {becomes}\r\n")), "{head}");
        } else {
            assert!(got.is_err() || got.is_ok_and(|got| got < len), "it ends before");
        }
    }
    let reply = asked(site.addr, b"HEAD /a HTTP/1.0\r\n\r\n");
    assert!(reply.contains("Content-Length: 1000\r\n"), "it serves on: {reply}");
    assert!(site.stops());
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
    for name in ["hello", "echo", "chat", "slow", "log", "static_files"] {
        let Some(path) = built(name) else { continue };
        let output = Command::new(path).arg("localhost").output().expect("the example runs");
        assert_eq!(output.status.code(), Some(1), "{name}");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(text.contains("127.0.0.1:80"), "{name}: {text}");
    }
}

#[test]
fn crossing_numbers_the_lines_of_all_connections_on_all_workers() {
    let Some(crossing) = Server::start("crossing") else { return };
    let mut clients: Vec<TcpStream> = (0..16).map(|_| client(crossing.addr)).collect();
    let mut servers = std::collections::BTreeSet::new();
    for nth in 1..=160 {
        let mut client = &clients[nth % 16];
        client.write_all(b"a line\n").expect("the server reads");
        let reply = read_exactly(client, format!("line {nth}, served by worker 0\n").len());
        let (number, server) = reply.split_once(", ").expect("two parts");
        assert_eq!(number, format!("line {nth}"));
        servers.insert(server.to_owned());
    }
    // Which worker takes a connection is the kernel's choice, by a hash.
    assert!((1..=2).contains(&servers.len()), "{servers:?}");
    clients[0].write_all(b"three\nin\none\n").expect("the server reads");
    clients[0].shutdown(Shutdown::Write).expect("connected");
    let last = read_all(&clients[0]);
    let numbers: Vec<_> = last.lines().filter_map(|line| line.split(',').next()).collect();
    assert_eq!(numbers, ["line 161", "line 162", "line 163"]);
    drop(clients);
    assert!(crossing.stops());
}
