//! TLS connections against plain rustls clients and servers over std sockets: what is sent arrives,
//! whole and in order, and whatever is wrong is told by cause.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kio::net::{ConnectOptions, ListenOptions};
use kio::tls::{Mode, TlsAcceptor, TlsConnector, TlsError, TlsStream};
use kio::{Core, Error, Worker};
use kio_tests::tls::{
    Authority, Choice, NAME, SUITES, Stage, VERSIONS, echo, modes, path_of, tls_client,
};
use kio_tests::{client, pattern, yield_now};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, ProtocolVersion, SupportedCipherSuite};

kio::pool! {
    struct Net;
    entry = idle,
    spawn = 64 x 16 KiB,
    calls = 4 x 64 KiB,
    conns = 64,
    buffers = 128 x 16 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// Whether the kernel does the records of that suite.
fn kernel_does(suite: SupportedCipherSuite) -> bool {
    let support = kio::tls::support();
    let ciphers = match suite.version().version {
        ProtocolVersion::TLSv1_2 => support.tls12,
        _ => support.tls13,
    };
    match format!("{:?}", suite.suite()) {
        name if name.contains("AES_128_GCM") => ciphers.aes_128_gcm,
        name if name.contains("AES_256_GCM") => ciphers.aes_256_gcm,
        _ => ciphers.chacha20_poly1305,
    }
}

/// Sends `sent` from a thread, reads as much, and ends with close_notify both ways.
fn exchange(addr: SocketAddr, config: &Arc<ClientConfig>, sent: &[u8]) -> Vec<u8> {
    let mut client = tls_client(addr, config);
    let mut got = Vec::new();
    // In halves of a window: an echo server stops reading while its replies are not read.
    for part in sent.chunks(50_000) {
        client.write_all(part).expect("the server reads");
        let mut reply = vec![0; part.len()];
        client.read_exact(&mut reply).expect("the server replies");
        got.extend_from_slice(&reply);
    }
    client.conn.send_close_notify();
    client.flush().expect("the server is there");
    assert_eq!(client.read(&mut [0; 1]).expect("close_notify"), 0);
    got
}

#[test]
fn what_is_sent_comes_back_with_every_cipher() {
    let authority = Authority::new();
    let identity = authority.issue(NAME);
    for mode in modes() {
        for suite in SUITES {
            if mode == Mode::Require && !kernel_does(suite) {
                println!("skipped: {suite:?} by the kernel, which lacks it");
                continue;
            }
            let choice = Choice::suite(suite);
            let acceptor = TlsAcceptor::new(Arc::new(choice.server(&identity)), mode).unwrap();
            let config = Arc::new(choice.client(&authority));
            let (got, served) = Net::serve_one(
                acceptor,
                move |addr| exchange(addr, &config, &pattern(300_000)),
                async move |conn| {
                    let mut conn = conn?;
                    assert_eq!(conn.info().suite(), suite.suite());
                    assert_eq!(conn.info().version(), suite.version().version);
                    assert_eq!(conn.info().sni(), Some(NAME));
                    assert!(!conn.info().resumed());
                    assert_eq!(conn.data_path(), path_of(mode));
                    echo(&mut conn).await?;
                    conn.close().await
                },
            );
            served.expect("a clean end");
            assert!(got == pattern(300_000), "{suite:?}");
        }
    }
}

#[test]
fn a_request_that_comes_with_the_end_of_the_handshake_is_answered() {
    let authority = Authority::new();
    let config = Arc::new(Choice::any().client(&authority));
    let identity = authority.issue(NAME);
    for mode in modes() {
        let server = Arc::new(Choice::any().server(&identity));
        let (config, acceptor) = (config.clone(), TlsAcceptor::new(server, mode).unwrap());
        let client = move |addr| {
            // Written before there are keys, it goes out in one piece with the client's Finished.
            let mut client = tls_client(addr, &config);
            client.conn.writer().write_all(b"at once").expect("rustls keeps it");
            let mut got = [0; 7];
            client.read_exact(&mut got).expect("the server replies");
            client.conn.send_close_notify();
            client.flush().expect("the server is there");
            assert_eq!(client.read(&mut [0; 1]).expect("close_notify"), 0);
            got
        };
        let (got, served) = Net::serve_one(acceptor, client, async |conn| {
            let mut conn = conn?;
            echo(&mut conn).await?;
            conn.close().await
        });
        served.expect("a clean end");
        assert_eq!(&got, b"at once");
    }
}

#[test]
fn both_sides_are_kios() {
    let authority = Authority::new();
    let choice = Choice::any();
    let server = Arc::new(choice.server(&authority.issue(NAME)));
    let client = Arc::new(choice.client(&authority));
    for mode in modes() {
        let acceptor = TlsAcceptor::new(server.clone(), mode).unwrap();
        let connector = TlsConnector::new(client.clone(), mode).unwrap();
        Net::on_worker(async move |worker| talk(worker, acceptor, connector).await);
    }
}

async fn talk(worker: Worker<Net>, acceptor: TlsAcceptor, connector: TlsConnector) {
    let options = ListenOptions::new().real_fds();
    let mut listener = worker.listen_with("127.0.0.1:0", options).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = async {
        let mut conn = acceptor.accept(listener.accept().await?).await?;
        echo(&mut conn).await?;
        conn.close().await
    };
    let client = async {
        let tcp = worker.connect_with(addr, ConnectOptions::new().real_fd()).await?;
        let mut conn = connector.connect(NAME, tcp).await?;
        assert_eq!(conn.info().sni(), Some(NAME));
        let sent = pattern(100_000);
        let mut got = Vec::new();
        {
            let (mut recv, mut send) = conn.split();
            let sending = async {
                send.send_copy(&sent).await?;
                send.shutdown().await
            };
            let receiving = async {
                while let Some(data) = recv.recv().await? {
                    got.extend_from_slice(&data);
                }
                kio::Result::Ok(())
            };
            let (sent, received) = embassy_futures::join::join(sending, receiving).await;
            sent?;
            received?;
        }
        assert!(got == sent);
        conn.close().await
    };
    let (server, client) = embassy_futures::join::join(server, client).await;
    server.unwrap();
    client.unwrap();
}

#[test]
fn try_recv_takes_what_is_here_and_the_end_is_for_recv_to_tell() {
    let authority = Authority::new();
    let identity = authority.issue(NAME);
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let choice = Choice::version(version);
        let acceptor = TlsAcceptor::new(Arc::new(choice.server(&identity)), mode).unwrap();
        let config = Arc::new(choice.client(&authority));
        // Three records, which the socket holds all.
        let sent = pattern(40_000);
        let expected = sent.clone();
        let written = Arc::new(AtomicBool::new(false));
        let all_written = written.clone();
        let (got, served) = Net::serve_one(
            acceptor,
            move |addr| {
                let mut client = tls_client(addr, &config);
                client.write_all(&sent).expect("the socket takes it");
                client.conn.send_close_notify();
                client.flush().expect("the server is there");
                written.store(true, Ordering::Release);
                let mut got = Vec::new();
                client.read_to_end(&mut got).expect("close_notify");
                got
            },
            async move |conn| {
                let mut conn = conn?;
                while !all_written.load(Ordering::Acquire) {
                    yield_now().await;
                }
                let (mut at_once, mut total) = (0, 0);
                while let Some(data) = conn.recv().await? {
                    total += data.len();
                    conn.push(data).await?;
                    while let Some(more) = conn.try_recv() {
                        assert!(!more.is_empty());
                        at_once += more.len();
                        total += more.len();
                        conn.push(more).await?;
                    }
                }
                assert!(conn.try_recv().is_none(), "the end is nothing to take");
                conn.close().await?;
                kio::Result::Ok((at_once, total))
            },
        );
        let (at_once, total) = served.expect("a clean end");
        assert!(got == expected, "{mode:?} {version:?}: {} bytes", got.len());
        assert_eq!(total, expected.len());
        // Where each receive takes once, the next record may come with the next receive.
        let goes_on = kio::probe().expect("there is a ring").multishot;
        assert!(at_once > 0 || !goes_on, "{mode:?} {version:?}");
    }
}

#[test]
fn an_end_without_close_notify_is_told_from_one_with() {
    let authority = Authority::new();
    let choice = Choice::any();
    let config = Arc::new(choice.client(&authority));
    let server = Arc::new(choice.server(&authority.issue(NAME)));
    for mode in modes() {
        let acceptor = TlsAcceptor::new(server.clone(), mode).unwrap();
        let config = config.clone();
        let ((), served) = Net::serve_one(
            acceptor,
            move |addr| {
                let mut client = tls_client(addr, &config);
                client.write_all(b"cut").expect("the server is there");
                client.sock.shutdown(std::net::Shutdown::Write).expect("it is open");
                let mut rest = Vec::new();
                client.sock.read_to_end(&mut rest).expect("the server closes");
            },
            async |conn| {
                let mut conn = conn?;
                assert_eq!(conn.recv().await?.as_deref(), Some(&b"cut"[..]));
                conn.recv().await.map(drop)
            },
        );
        assert_eq!(served, Err(Error::Tls(TlsError::Truncated)));
    }
}

#[test]
fn plain_http_on_the_tls_port_is_told_as_such() {
    let authority = Authority::new();
    let server = Arc::new(Choice::any().server(&authority.issue(NAME)));
    for mode in modes() {
        let acceptor = TlsAcceptor::new(server.clone(), mode).unwrap();
        let (reply, served) = Net::serve_one(
            acceptor,
            move |addr| {
                let mut client = client(addr);
                client.write_all(b"GET / HTTP/1.1\r\nHost: kio.example\r\n\r\n").unwrap();
                let mut reply = Vec::new();
                client.read_to_end(&mut reply).expect("an alert, then the end");
                reply
            },
            async |conn| conn.map(drop),
        );
        assert_eq!(served, Err(Error::Tls(TlsError::NotTls)));
        assert_eq!(reply[0], 21, "an alert");
        assert_eq!(reply[5], 2, "a fatal one");
    }
}

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
    struct Declared;
    workers = 2,
    state = App,
    listen = { "127.0.0.1:0" => tell { tls = App::acceptor } },
    tasks = { tell: 32 },
    conns = 64,
    pin = off,
}

/// Says how it came to be, then echoes.
async fn tell(worker: Worker<Declared>, mut conn: TlsStream) -> kio::Result<()> {
    let resumed = if conn.info().resumed() { "resumed" } else { "full" };
    conn.send(if worker.index() == 0 { "0 " } else { "1 " }).await?;
    conn.send_copy(format!("{resumed}\n").as_bytes()).await?;
    echo(&mut conn).await?;
    conn.close().await
}

/// What `tell` says to a client of the address, and which certificate it shows.
fn told(addr: SocketAddr, config: &Arc<ClientConfig>) -> Result<(String, Vec<u8>), std::io::Error> {
    let mut client = tls_client(addr, config);
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        client.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    let certificate = client.conn.peer_certificates().expect("there is one")[0].to_vec();
    client.conn.send_close_notify();
    client.flush()?;
    assert_eq!(client.read(&mut byte)?, 0);
    Ok((String::from_utf8(line).expect("text"), certificate))
}

#[test]
fn a_declared_listener_shakes_hands_resumes_on_any_worker_and_reloads() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(NAME), authority.issue(NAME));
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let choice = Choice::version(version);
        let acceptor = TlsAcceptor::new(Arc::new(choice.server(&old)), mode).unwrap();
        let pool = Declared::start_when_free(acceptor.clone()).expect("a free port");
        let addr = pool.local_addr().expect("it listens");
        // Nobody waits for this one, who says nothing.
        let silent = client(addr);

        let config = Arc::new(choice.client(&authority));
        let mut seen = [false; 2];
        let mut first = true;
        while seen != [true; 2] {
            let (line, certificate) = told(addr, &config).expect("a connection");
            assert_eq!(certificate, *old.chain[0]);
            let expected = if first { "full" } else { "resumed" };
            assert_eq!(line[2..].trim(), expected, "{mode:?} {version:?}");
            seen[usize::from(line.starts_with('1'))] = true;
            first = false;
        }

        acceptor.reload(Arc::new(choice.server(&new)));
        let fresh = Arc::new(choice.client(&authority));
        let (_, certificate) = told(addr, &fresh).expect("a connection");
        assert_eq!(certificate, *new.chain[0]);

        drop(silent);
        pool.stop();
        pool.join().expect("a clean end");
    }
}

#[test]
fn sessions_are_resumed_by_the_client_too() {
    let authority = Authority::new();
    let identity = authority.issue(NAME);
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let choice = Choice::version(version);
        let acceptor = TlsAcceptor::new(Arc::new(choice.server(&identity)), mode).unwrap();
        let connector = TlsConnector::new(Arc::new(choice.client(&authority)), mode).unwrap();
        let resumed = Net::on_worker(async move |worker: Worker<Net>| {
            let options = ListenOptions::new().real_fds();
            let mut listener = worker.listen_with("127.0.0.1:0", options).await.unwrap();
            let addr = listener.local_addr().unwrap();
            let mut resumed = Vec::new();
            for _ in 0..3 {
                let server = async {
                    let mut conn = acceptor.accept(listener.accept().await?).await?;
                    conn.send("with tickets before").await?;
                    while conn.recv().await?.is_some() {}
                    conn.close().await
                };
                let client = async {
                    let options = ConnectOptions::new().real_fd();
                    let mut conn =
                        connector.connect(NAME, worker.connect_with(addr, options).await?).await?;
                    while let Some(data) = conn.recv().await? {
                        assert_eq!(*data, *b"with tickets before");
                        conn.shutdown().await?;
                    }
                    kio::Result::Ok(conn.info().resumed())
                };
                let (server, client) = embassy_futures::join::join(server, client).await;
                server.unwrap();
                resumed.push(client.unwrap());
            }
            resumed
        });
        assert_eq!(resumed, [false, true, true], "{mode:?} {version:?}");
    }
}

#[test]
fn protocols_names_and_client_certificates_are_told() {
    let authority = Authority::new();
    let identity = authority.issue(NAME);
    let visitor = authority.issue("visitor.example");
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let choice = Choice::version(version);
        let mut server = choice.server_for_known(&identity, &authority);
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::new(Arc::new(server), mode).unwrap().keep_peer_certificates();
        let mut config = choice.client_as(&authority, Some(&visitor));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let expected = visitor.chain.clone();
        let (_, served) = Net::serve_one(
            acceptor,
            move |addr| exchange(addr, &config, b"hello"),
            async move |conn| {
                let mut conn = conn?;
                assert_eq!(conn.info().alpn(), Some(&b"http/1.1"[..]));
                assert_eq!(conn.info().sni(), Some(NAME));
                assert_eq!(conn.info().peer_certificates(), Some(&expected[..]));
                echo(&mut conn).await?;
                conn.close().await
            },
        );
        served.expect("a clean end");
    }
}

#[test]
fn the_example_https_answers_and_reloads_its_certificate() {
    let program = std::env::current_exe().expect("a test is a program");
    let example = program.ancestors().nth(2).expect("a folder").join("examples/https");
    if !example.exists() {
        println!("skipped: {} is not built", example.display());
        return;
    }
    let folder = std::env::temp_dir().join(format!("kio-https-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = free.local_addr().expect("it is bound");
    drop(free);
    let mut command = std::process::Command::new(example);
    command.arg(addr.to_string()).current_dir(&folder).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the example runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut hear = |word: &str| {
        let heard = lines.by_ref().map(|line| line.expect("text")).any(|line| line.contains(word));
        assert!(heard, "the example says {word}");
    };
    hear("open https://");
    while std::net::TcpStream::connect(addr).is_err() {
        assert_eq!(child.try_wait().expect("a child"), None, "it runs");
        thread::sleep(std::time::Duration::from_millis(5));
    }
    let ask = || {
        let root = CertificateDer::from_pem_file(folder.join("kio-example.pem")).expect("a file");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().expect("a name");
        let conn = rustls::ClientConnection::new(Arc::new(config), name).expect("a configuration");
        let mut client = rustls::StreamOwned::new(conn, client(addr));
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it reads");
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("a reply, and close_notify");
        reply
    };
    assert!(ask().contains("Hello from kio, by TLSv1_3"), "{}", ask());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
    hear("new connections");
    assert!(ask().contains("Hello from kio"));
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert!(child.wait().expect("a child").success());
    let _ = std::fs::remove_dir_all(&folder);
}
