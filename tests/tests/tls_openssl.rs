//! TLS with another implementation at the other end: the distribution's `openssl` and `curl`, over both
//! data paths. Where they are not installed the tests say so.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kio::net::ConnectOptions;
use kio::tls::{DataPath, Mode, TlsAcceptor, TlsConnector, TlsError, TlsStream};
use kio::{Core, Worker};
use kio_tests::tls::{
    Authority, Choice, Identity, NAME, VERSIONS, assert_by_kernel, kernel_rekeys, kernel_sessions,
    modes,
};
use rustls::ProtocolVersion;

struct App {
    acceptor: TlsAcceptor,
}

impl kio::State for App {
    type Args = TlsAcceptor;

    fn init(_: Core, acceptor: &TlsAcceptor) -> kio::Result<Self> {
        Ok(Self { acceptor: acceptor.clone() })
    }
}

impl App {
    fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

kio::pool! {
    struct Server;
    state = App,
    listen = { "127.0.0.1:0" => serve { tls = App::acceptor } },
    conns = 16,
    pin = off,
}

kio::pool! {
    struct Client;
    entry = idle,
    calls = 4 x 64 KiB,
    conns = 16,
    pin = off,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// Answers a request of HTTP with one word, and all else with itself.
async fn serve(mut conn: TlsStream) -> kio::Result<()> {
    let path = conn.data_path();
    println!("served by {path}");
    while let Some(data) = conn.recv_idle().await? {
        if data.starts_with(b"GET ") {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").await?;
        } else {
            conn.send(data).await?;
        }
    }
    conn.close().await
}

fn installed(program: &str) -> bool {
    let mut ask = Command::new(program);
    let ask = ask.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let found = ask.status().is_ok();
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// A folder for one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kio-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The authority's certificate, as a file that openssl and curl read.
    fn root(&self, authority: &Authority) -> PathBuf {
        let (der, pem) = (self.file("root.der"), self.file("root.pem"));
        std::fs::write(&der, authority.root()).expect("a file");
        let mut convert = Command::new("openssl");
        convert.args(["x509", "-inform", "der", "-in"]).arg(der).arg("-out").arg(&pem);
        assert!(convert.status().expect("it is installed").success());
        pem
    }

    /// A certificate and its key, as arguments of openssl.
    fn identity(&self, identity: &Identity) -> Vec<String> {
        let (cert, key) = (self.file("cert.der"), self.file("key.der"));
        std::fs::write(&cert, &identity.chain[0]).expect("a file");
        std::fs::write(&key, identity.key_der()).expect("a file");
        let text = |path: &Path| path.to_str().expect("text").to_string();
        [("-cert", &cert), ("-key", &key)]
            .into_iter()
            .flat_map(|(name, path)| [name.into(), text(path), format!("{name}form"), "DER".into()])
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An `openssl` that is spoken to.
struct Openssl {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    heard: String,
}

impl Openssl {
    /// Starts it with both of its output streams in one: it tells of key updates on the second.
    fn start(command: &Command) -> Self {
        let mut both = Command::new("sh");
        both.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(command.get_program());
        both.args(command.get_args()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = both.spawn().expect("a shell");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, output, heard: String::new() }
    }

    fn client(addr: SocketAddr, root: &Path, version: ProtocolVersion) -> Command {
        let version = match version {
            ProtocolVersion::TLSv1_2 => "-tls1_2",
            _ => "-tls1_3",
        };
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &addr.to_string(), "-servername", NAME, version])
            .args(["-verify_hostname", NAME, "-verify_return_error", "-CAfile"])
            .arg(root);
        command
    }

    /// Says it, unless it has ended.
    fn say(&mut self, text: &str) {
        let _ = self.input.write_all(text.as_bytes()).and_then(|()| self.input.flush());
    }

    /// Waits for a line with that text; false where it ends before.
    fn hears(&mut self, text: &str) -> bool {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap_or(0) == 0 {
                return false;
            }
            self.heard.push_str(&line);
            if line.contains(text) {
                return true;
            }
        }
    }

    /// Ends it, and gives all it said.
    fn ends(mut self) -> String {
        drop(self.input);
        let _ = self.output.read_to_string(&mut self.heard);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.heard
    }
}

#[test]
fn s_client_is_echoed_resumes_and_shows_its_certificate() {
    if !installed("openssl") {
        return;
    }
    let authority = Authority::new();
    let folder = Folder::new("s_client");
    let root = folder.root(&authority);
    let visitor = folder.identity(&authority.issue("visitor.example"));
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let identity = authority.issue(NAME);
        let choice = Choice::version(version);
        for known in [false, true] {
            let config = match known {
                true => choice.server_for_known(&identity, &authority),
                false => choice.server(&identity),
            };
            let acceptor = TlsAcceptor::new(Arc::new(config), mode).expect("the mode is there");
            let pool = Server::start_when_free(acceptor).expect("a free port");
            let addr = pool.local_addr().expect("it listens");
            let session = folder.file("session.pem");
            let before = kernel_sessions();
            for (option, how) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
                let mut command = Openssl::client(addr, &root, version.version);
                command.arg(option).arg(&session);
                if known {
                    command.args(&visitor);
                }
                let mut client = Openssl::start(&command);
                client.say("hello over there\n");
                assert!(client.hears("hello over there"), "{mode:?} {version:?}: {}", client.heard);
                client.say("Q\n");
                let heard = client.ends();
                assert!(heard.contains("Verification: OK"), "{heard}");
                assert!(heard.contains(how), "{how} {mode:?} {version:?} {known}: {heard}");
            }
            assert_by_kernel(before, if mode == Mode::Require { 2 } else { 0 });
            pool.stop();
            pool.join().expect("a clean end");
        }
    }
}

#[test]
fn s_client_changes_its_keys() {
    if !installed("openssl") {
        return;
    }
    let authority = Authority::new();
    let folder = Folder::new("key_update");
    let root = folder.root(&authority);
    for mode in modes() {
        let choice = Choice::any();
        let config = Arc::new(choice.server(&authority.issue(NAME)));
        let acceptor = TlsAcceptor::new(config, mode).expect("the mode is there");
        let pool = Server::start_when_free(acceptor).expect("a free port");
        let addr = pool.local_addr().expect("it listens");
        let command = Openssl::client(addr, &root, ProtocolVersion::TLSv1_3);
        let (before, rekeys) = (kernel_sessions(), kernel_rekeys());
        let mut client = Openssl::start(&command);
        client.say("first\n");
        assert!(client.hears("first"), "{}", client.heard);
        // `K` wants ours to change too, `k` does not.
        for (update, text) in
            [("K\n", "a line, 2\n"), ("k\n", "a line, 3\n"), ("K\n", "a line, 4\n")]
        {
            client.say(update);
            let goes_on = client.hears("KEYUPDATE");
            client.say(text);
            let heard = goes_on && client.hears(text.trim());
            if mode == Mode::Off || kio::tls::support().rekey {
                assert!(heard, "{mode:?} {text}: {}", client.heard);
            } else {
                println!("skipped: key updates by the kernel, which cannot");
                assert!(!heard, "the connection ends: {}", client.heard);
                break;
            }
        }
        client.ends();
        if mode == Mode::Require {
            assert_by_kernel(before, 1);
            // Three of theirs, and two that they wanted of ours.
            let expected = if kio::tls::support().rekey { [2, 3] } else { [0; 2] };
            for ((before, after), n) in rekeys.into_iter().zip(kernel_rekeys()).zip(expected) {
                assert!(after >= before + n, "new keys in the kernel: {before}, {after}");
            }
        }
        pool.stop();
        pool.join().expect("a clean end");
    }
}

#[test]
fn s_server_answers_and_changes_its_keys() {
    if !installed("openssl") {
        return;
    }
    let authority = Authority::new();
    let folder = Folder::new("s_server");
    let identity = folder.identity(&authority.issue(NAME));
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1"]).args(&identity);
        let mut server = Openssl::start(&command);
        assert!(server.hears("ACCEPT"), "{}", server.heard);
        let addr = server.heard.split_whitespace().last().expect("an address");
        let addr: SocketAddr = addr.parse().expect("an address");
        let config = Choice::version(version).client(&authority);
        let connector = TlsConnector::new(Arc::new(config), mode).expect("the mode is there");
        let pool = Client::start_when_free().expect("the last run held nothing");

        let updates = version.version == ProtocolVersion::TLSv1_3
            && (mode == Mode::Off || kio::tls::support().rekey);
        // The other half of the conversation, which begins when ours has begun.
        let talk = std::thread::spawn(move || {
            assert!(server.hears("from kio"), "{}", server.heard);
            for (update, text) in [("K\n", "one\n"), ("k\n", "two\n"), ("", "three\n")] {
                if updates && !update.is_empty() {
                    server.say(update);
                    // It keeps what it says of it in a buffer, and takes what it reads at once with
                    // it for a part of the command: a moment, so that it reads the next apart.
                    std::thread::sleep(Duration::from_millis(300));
                }
                server.say(text);
                assert!(server.hears(text.trim()), "it comes back: {}", server.heard);
            }
            server.say("Q\n");
            server.ends();
        });
        let before = kernel_sessions();
        let path = pool.on(0, async move |worker: Worker<Client>| {
            let tcp = worker.connect_with(addr, ConnectOptions::new().real_fd()).await?;
            let mut conn = connector.connect(NAME, tcp).await?;
            conn.send("from kio\n").await?;
            let end = loop {
                match conn.recv().await {
                    Ok(Some(data)) => conn.send(data).await?,
                    end => break end.map(drop),
                }
            };
            // It quits without close_notify.
            assert!(end.is_ok() || end == Err(TlsError::Truncated.into()), "{end:?}");
            kio::Result::Ok(conn.data_path())
        });
        talk.join().expect("s_server is content");
        let path = path.expect("the body ends").expect("no error");
        assert_eq!(path == DataPath::Kernel, mode == Mode::Require);
        assert_by_kernel(before, u64::from(mode == Mode::Require));
        pool.stop();
        pool.join().expect("a clean end");
    }
}

#[test]
fn curl_gets_a_page() {
    if !installed("curl") || !installed("openssl") {
        return;
    }
    let authority = Authority::new();
    let folder = Folder::new("curl");
    let root = folder.root(&authority);
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let config = Choice::version(version).server(&authority.issue(NAME));
        let acceptor = TlsAcceptor::new(Arc::new(config), mode).expect("the mode is there");
        let pool = Server::start_when_free(acceptor).expect("a free port");
        let addr = pool.local_addr().expect("it listens");
        let port = addr.port();
        let url = format!("https://{NAME}:{port}/");
        let before = kernel_sessions();
        let output = Command::new("curl")
            .args([
                "-sS",
                "--http1.1",
                "--resolve",
                &format!("{NAME}:{port}:127.0.0.1"),
                "--cacert",
            ])
            .arg(&root)
            .args([&url, &url]) // the second over the same connection
            .output()
            .expect("it is installed");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\nhello\n", "{output:?}");
        assert_by_kernel(before, u64::from(mode == Mode::Require));
        pool.stop();
        pool.join().expect("a clean end");
    }
}
