//! What peers can do to a TLS connection: each ends it with an error that says what happened, an
//! alert where TLS has one, and everything given back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use kio::net::ConnectOptions;
use kio::tls::{Common, DataPath, Mode, Refused, TlsAcceptor, TlsConnector, TlsError, TlsStream};
use kio::{Core, Error, Worker};
use kio_tests::tls::{
    Authority, Choice, Forger, NAME, SUITES, Stage, VERSIONS, assert_by_kernel, kernel_rekeys,
    kernel_sessions, modes, read_out, tls_client,
};
use kio_tests::{client, pattern, poll_then_drop, scaled, yield_now};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ServerConfig, SupportedProtocolVersion};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

const KEY_UPDATE_WANTED: &[u8] = &[24, 0, 0, 1, 1];

kio::pool! {
    struct Net;
    entry = idle,
    spawn = 64 x 16 KiB,
    calls = 4 x 64 KiB,
    conns = 64,
    buffers = 128 x 4 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// Who issues, and what both sides are configured with.
struct Site {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Site {
    fn new(choice: &Choice) -> Self {
        let authority = Authority::new();
        let mut server = choice.server(&authority.issue(NAME));
        let mut client = choice.client(&authority);
        server.enable_secret_extraction = true;
        client.enable_secret_extraction = true;
        Self { server: Arc::new(server), client: Arc::new(client) }
    }

    fn version(version: &'static SupportedProtocolVersion) -> Self {
        Self::new(&Choice::version(version))
    }

    fn acceptor(&self, mode: Mode) -> TlsAcceptor {
        TlsAcceptor::new(self.server.clone(), mode).expect("the mode is there")
    }
}

/// What is left to read of a connection; a reset is an end too.
fn rest(mut tcp: &TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = tcp.read_to_end(&mut rest);
    rest
}

/// The two flights of an honest client: what it says first, and what to the server's answer.
fn hello(config: &Arc<ClientConfig>) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from(NAME).expect("a name");
    let mut conn = ClientConnection::new(config.clone(), name).expect("a configuration");
    let mut bytes = Vec::new();
    conn.write_tls(&mut bytes).expect("to memory");
    (conn, bytes)
}

/// Sends the first `cut` bytes of what an honest client sends in its handshake, then ends its side.
/// Tells whether that was all.
fn cut_handshake(addr: SocketAddr, config: &Arc<ClientConfig>, cut: usize) -> bool {
    let mut tcp = client(addr);
    let (mut conn, first) = hello(config);
    let now = cut.min(first.len());
    tcp.write_all(&first[..now]).expect("the server reads");
    let mut left = cut - now;
    let mut all = now == first.len();
    while all && conn.is_handshaking() {
        if conn.wants_write() {
            let mut bytes = Vec::new();
            conn.write_tls(&mut bytes).expect("to memory");
            let now = left.min(bytes.len());
            tcp.write_all(&bytes[..now]).expect("the server reads");
            left -= now;
            all = now == bytes.len();
        } else if all {
            conn.read_tls(&mut tcp).expect("the server answers");
            conn.process_new_packets().expect("an honest server");
        }
    }
    while all && conn.wants_write() {
        let mut bytes = Vec::new();
        conn.write_tls(&mut bytes).expect("to memory");
        let now = left.min(bytes.len());
        tcp.write_all(&bytes[..now]).expect("the server reads");
        left -= now;
        all = now == bytes.len();
    }
    let _ = tcp.shutdown(Shutdown::Write);
    rest(&tcp);
    all
}

#[test]
fn a_handshake_cut_at_any_byte_ends() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let site = Site::version(version);
        let config = site.client.clone();
        // More than a handshake has; in steps where machines are slow.
        let step = 1000 / scaled(1000);
        let cuts: Vec<usize> = (0..600).step_by(step).collect();
        let times = cuts.len();
        let (whole, served) = Net::serve(
            site.acceptor(mode),
            times,
            move |addr| {
                cuts.into_iter().map(|cut| cut_handshake(addr, &config, cut)).collect::<Vec<_>>()
            },
            read_out,
        );
        assert!(whole.contains(&true) && whole.contains(&false), "{times} cuts are all there are");
        for (whole, served) in whole.into_iter().zip(served) {
            let expected = match whole {
                false => TlsError::HandshakeEnded,
                true => TlsError::Truncated,
            };
            // A client that is gone when the kernel is asked, or the answer sent.
            let gone = matches!(served, Err(Error::Os { .. }));
            assert!(served == Err(Error::Tls(expected)) || gone, "{mode:?}: {served:?}");
        }
    }
}

#[test]
fn garbage_is_refused_with_an_alert() {
    let heads: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"\x16\x03\x01\x00\x05garbage",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\xff\xffgarbage",
        b"\x17\x03\x03\x00\x05first data",
        b"\x15\x03\x03\x00\x05alert",
    ];
    for mode in modes() {
        let site = Site::new(&Choice::any());
        let (replies, served) = Net::serve(
            site.acceptor(mode),
            heads.len(),
            move |addr| {
                heads.map(|head| {
                    let mut tcp = client(addr);
                    tcp.write_all(head).expect("the server reads");
                    tcp.write_all(&pattern(200)).expect("the server reads");
                    rest(&tcp)
                })
            },
            async |conn| conn.map(drop),
        );
        for ((reply, served), head) in replies.iter().zip(&served).zip(heads) {
            assert!(matches!(served, Err(Error::Tls(_))), "{mode:?}: {served:?}");
            assert_eq!(reply.first(), Some(&ALERT), "{mode:?} {head:x?} {served:?}: {reply:?}");
        }
        assert_eq!(served[0], Err(Error::Tls(TlsError::NotTls)));
    }
}

#[test]
fn a_silent_client_is_cut_off_and_a_reset_one_forgotten() {
    for mode in modes() {
        let site = Site::new(&Choice::any());
        let config = site.client.clone();
        let acceptor = site.acceptor(mode).deadline(Duration::from_millis(200));
        let ((), served) = Net::serve(
            acceptor,
            3,
            move |addr| {
                assert_eq!(rest(&client(addr)), [0; 0]);
                // One that says half of something.
                let mut half = client(addr);
                half.write_all(&hello(&config).1[..100]).expect("the server reads");
                assert_eq!(rest(&half), [0; 0]);
                let mut reset = client(addr);
                reset.write_all(&hello(&config).1[..100]).expect("the server reads");
                let linger = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(&reset, linger).expect("a socket");
            },
            async |conn| conn.map(drop),
        );
        let late = Error::Tls(TlsError::HandshakeLate);
        assert_eq!(served[..2], [Err(late), Err(late)], "{mode:?}");
        let error = served[2].expect_err("a reset");
        assert!(error.is_routine() && error != late, "{mode:?}: {error:?}");
    }
}

#[test]
fn a_handshake_of_crumbs_is_too_long() {
    for mode in modes() {
        let site = Site::new(&Choice::any());
        let (_, served) = Net::serve(
            site.acceptor(mode),
            1,
            |addr| {
                let mut tcp = client(addr);
                // A message of 60,000 bytes, one by one.
                let mut crumbs = b"\x16\x03\x01\x00\x04\x01\x00\xea\x60".to_vec();
                crumbs.extend(b"\x16\x03\x01\x00\x01x".repeat(2000));
                let _ = tcp.write_all(&crumbs);
                rest(&tcp)
            },
            async |conn| conn.map(drop),
        );
        assert_eq!(served, [Err(Error::Tls(TlsError::HandshakeTooLong))], "{mode:?}");
    }
}

#[test]
fn a_full_record_in_segments_of_a_byte_arrives() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let site = Site::version(version);
        let config = site.client.clone();
        let ((), served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| {
                let mut forger = Forger::client(addr, &config);
                let record = forger.seal(DATA, &pattern(16 * 1024));
                for byte in record.chunks(scaled(20).div_ceil(20).max(21 - scaled(20))) {
                    forger.tcp.write_all(byte).expect("the server reads");
                }
                let end = forger.seal(ALERT, &[1, 0]);
                forger.tcp.write_all(&end).expect("the server reads");
                rest(&forger.tcp);
            },
            async |conn| {
                let mut conn = conn?;
                let mut got = Vec::new();
                while let Some(data) = conn.recv().await? {
                    got.extend_from_slice(&data);
                }
                kio::Result::Ok(got == pattern(16 * 1024))
            },
        );
        assert_eq!(served, [Ok(true)], "{mode:?}");
    }
}

/// What a server ends with whose client sends `forged` after an honest handshake, and what the client
/// is sent then.
fn forged(
    mode: Mode,
    version: &'static SupportedProtocolVersion,
    forge: impl FnOnce(&mut Forger) -> std::io::Result<()> + Send + 'static,
) -> (Vec<u8>, kio::Result<usize>) {
    let site = Site::version(version);
    let config = site.client.clone();
    let (reply, served) = Net::serve(
        site.acceptor(mode),
        1,
        move |addr| {
            let mut forger = Forger::client(addr, &config);
            // The server may be gone before it is all written.
            let _ = forge(&mut forger);
            let _ = forger.tcp.shutdown(Shutdown::Write);
            rest(&forger.tcp)
        },
        read_out,
    );
    (reply, served[0])
}

#[test]
fn records_that_were_changed_or_are_none_end_the_connection() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let (reply, served) = forged(mode, version, |forger| {
            let mut record = forger.seal(DATA, b"hello");
            *record.last_mut().expect("bytes") ^= 1;
            forger.tcp.write_all(&record)
        });
        assert_eq!(served, Err(Error::Tls(TlsError::Corrupt)), "{mode:?}");
        // The kernel keeps the record, so the close is a reset, which may overtake the alert.
        assert!(mode == Mode::Require || reply.len() > 5, "an alert: {reply:?}");

        // Good data before is delivered first; and again the same error.
        let (_, served) = forged(mode, version, |forger| {
            let mut records = forger.seal(DATA, b"hello");
            records.extend(forger.seal(DATA, b"world"));
            *records.last_mut().expect("bytes") ^= 1;
            forger.tcp.write_all(&records)
        });
        assert_eq!(served, Err(Error::Tls(TlsError::Corrupt)), "{mode:?}");

        let (_, served) = forged(mode, version, |forger| {
            let mut record = b"\x17\x03\x03\x60\x00".to_vec();
            record.extend(pattern(0x6000));
            forger.tcp.write_all(&record)
        });
        assert_eq!(served, Err(Error::Tls(TlsError::Oversized)), "{mode:?} {version:?}");

        let (_, served) =
            forged(mode, version, |forger| forger.tcp.write_all(b"GET / HTTP/1.1\r\n"));
        assert!(matches!(served, Err(Error::Tls(_))), "{mode:?} {version:?}: {served:?}");
    }
}

#[test]
fn what_follows_close_notify_is_not_heard() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let (_, served) = forged(mode, version, |forger| {
            let mut records = forger.seal(DATA, b"hello");
            records.extend(forger.seal(ALERT, &[1, 0]));
            records.extend(forger.seal(DATA, b"never"));
            records.extend(b"garbage");
            forger.tcp.write_all(&records)
        });
        assert_eq!(served, Ok(5), "{mode:?} {version:?}");
    }
}

#[test]
fn alerts_are_told_and_storms_of_them_end() {
    for mode in modes() {
        for version in VERSIONS {
            let (_, served) = forged(mode, version, |forger| forger.send(ALERT, &[&[2, 90]]));
            let user_canceled = version.version == TLS13.version && served != Ok(0);
            assert!(user_canceled || served == Err(Error::Tls(TlsError::Alert(90))), "{served:?}");
            let (_, served) = forged(mode, version, |forger| forger.send(ALERT, &[&[2, 42]]));
            assert_eq!(served, Err(Error::Tls(TlsError::Alert(42))), "{mode:?}");
            let (_, served) = forged(mode, version, |forger| forger.send(ALERT, &[&[1]]));
            assert_eq!(served, Err(Error::Tls(TlsError::Misbehaved)), "{mode:?}");
        }
        let (_, served) = forged(mode, &TLS12, |forger| forger.send(ALERT, &[&[1, 90][..]; 1000]));
        assert_eq!(served, Err(Error::Tls(TlsError::Storm)), "{mode:?}");
    }
}

#[test]
fn handshake_messages_out_of_place_end_the_connection() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        // A ticket from a client, a Finished, a key update with more behind it, an empty record.
        let messages: [&[u8]; 4] =
            [&[4, 0, 0, 1, 0], &[20, 0, 0, 0], &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], &[]];
        for message in messages {
            let (_, served) =
                forged(mode, version, move |forger| forger.send(HANDSHAKE, &[message]));
            assert!(
                matches!(served, Err(Error::Tls(TlsError::Misbehaved | TlsError::Truncated))),
                "{mode:?} {version:?} {message:?}: {served:?}"
            );
        }
        // Data inside of a message.
        let (_, served) = forged(mode, version, |forger| {
            forger.send(HANDSHAKE, &[&[24, 0]])?;
            forger.send(DATA, &[b"hello"])
        });
        assert_eq!(served, Err(Error::Tls(TlsError::Misbehaved)), "{mode:?} {version:?}");
    }
}

#[test]
fn a_message_in_crumbs_holds_a_bounded_lot() {
    // A byte of the message each: alone, and with 4,000 bytes of padding behind it (the content type
    // is the last byte that is not 0). The message never ends.
    let padded = [&[7, HANDSHAKE][..], &[0; 4000]].concat();
    for (mode, kind, crumb) in
        modes().into_iter().flat_map(|mode| [(mode, HANDSHAKE, vec![7]), (mode, 0, padded.clone())])
    {
        let (_, served) = forged(mode, &TLS13, move |forger| {
            forger.send(HANDSHAKE, &[&[4, 0, 0xff, 0]])?;
            (0..80).try_for_each(|_| forger.send(kind, &[&crumb[..]; 100]))
        });
        // The kernel keeps the message's bytes alone.
        let ended = if mode == Mode::Off { TlsError::Storm } else { TlsError::Truncated };
        assert_eq!(served, Err(Error::Tls(ended)), "{mode:?}");
    }
}

#[test]
fn key_updates_change_the_keys_where_they_can_be() {
    for mode in modes() {
        let site = Site::version(&TLS13);
        let config = site.client.clone();
        let before = kernel_rekeys();
        let (got, served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| {
                let mut client = tls_client(addr, &config);
                let mut got = Vec::new();
                for i in 0..10u8 {
                    let mut byte = [i];
                    let all = client
                        .write_all(&byte)
                        .and_then(|()| client.read_exact(&mut byte))
                        .map(|()| got.push(byte[0]));
                    if all.is_err() {
                        break;
                    }
                    client.conn.refresh_traffic_keys().expect("TLS 1.3");
                }
                client.conn.send_close_notify();
                let _ = client.flush();
                let _ = client.sock.shutdown(Shutdown::Write);
                rest(&client.sock);
                got
            },
            async |conn| {
                let mut conn = conn?;
                while let Some(data) = conn.recv().await? {
                    conn.send(data).await?;
                }
                conn.close().await
            },
        );
        if mode == Mode::Off || kio::tls::support().rekey {
            assert_eq!(served, [Ok(())], "{mode:?}");
            assert_eq!(got, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "{mode:?}");
            let rekeys = if mode == Mode::Require { 9 } else { 0 };
            let after = kernel_rekeys();
            assert!(after[1] >= before[1] + rekeys, "by the kernel: {before:?}, {after:?}");
        } else {
            println!("skipped: key updates by the kernel, which cannot");
            assert_eq!(served, [Err(Error::Tls(TlsError::NoKeyUpdate))]);
        }
    }
}

#[test]
fn a_storm_of_key_updates_ends() {
    for mode in modes() {
        let site = Site::version(&TLS13);
        let config = site.client.clone();
        let ((), served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| {
                let mut client = tls_client(addr, &config);
                for _ in 0..100 {
                    if client.flush().is_err() {
                        break;
                    }
                    client.conn.refresh_traffic_keys().expect("TLS 1.3");
                }
                let _ = client.flush();
                let _ = client.sock.shutdown(Shutdown::Write);
                rest(&client.sock);
            },
            read_out,
        );
        let expected = match mode == Mode::Off || kio::tls::support().rekey {
            true => TlsError::Storm,
            false => TlsError::NoKeyUpdate,
        };
        assert_eq!(served, [Err(Error::Tls(expected))], "{mode:?}");
    }
}

/// What `connector` gets of a plain server on a thread of its own, which serves one connection.
fn connect(
    connector: TlsConnector,
    name: &'static str,
    server: impl FnOnce(TcpStream) + Send + 'static,
    then: impl AsyncFnOnce(TlsStream) -> kio::Result<DataPath> + Send + 'static,
) -> kio::Result<DataPath> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let server = thread::spawn(move || server(listener.accept().expect("a client").0));
    let before = kernel_sessions();
    let result = Net::on_worker(async move |worker: Worker<Net>| {
        let tcp = worker.connect_with(addr, ConnectOptions::new().real_fd()).await?;
        then(connector.connect(name, tcp).await?).await
    });
    server.join().expect("the server ends well");
    assert_by_kernel(before, u64::from(result == Ok(DataPath::Kernel)));
    result
}

/// A plain server that shakes hands, says nothing, and waits for the client's end.
fn quiet(config: Arc<ServerConfig>) -> impl FnOnce(TcpStream) + Send + 'static {
    move |mut tcp| {
        let mut conn = rustls::ServerConnection::new(config).expect("a configuration");
        while conn.is_handshaking() {
            if conn.complete_io(&mut tcp).is_err() {
                break;
            }
        }
        let _ = conn.complete_io(&mut tcp);
        rest(&tcp);
    }
}

#[test]
fn a_refused_certificate_is_told_by_cause() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let past = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    };
    let future = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    };
    let client_only = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let cases = [
        (authority.issue("other.example"), Refused::WrongName),
        (authority.issue_with(NAME, past), Refused::Expired),
        (authority.issue_with(NAME, future), Refused::NotYetValid),
        (authority.issue_with(NAME, client_only), Refused::WrongPurpose),
        (stranger.issue(NAME), Refused::UnknownIssuer),
    ];
    for mode in modes() {
        for version in VERSIONS {
            let choice = Choice::version(version);
            for (identity, why) in &cases {
                let connector =
                    TlsConnector::new(Arc::new(choice.client(&authority)), mode).unwrap();
                let server = quiet(Arc::new(choice.server(identity)));
                let result = connect(connector, NAME, server, async |conn| Ok(conn.data_path()));
                assert_eq!(result, Err(Error::Tls(TlsError::Certificate(*why))), "{mode:?}");
            }
            // A client without a certificate, where one is wanted.
            let server = choice.server_for_known(&authority.issue(NAME), &authority);
            let acceptor = TlsAcceptor::new(Arc::new(server), mode).unwrap();
            let config = Arc::new(choice.client(&authority));
            let (_, served) = Net::serve(
                acceptor,
                1,
                move |addr| {
                    let mut client = tls_client(addr, &config);
                    let _ = client.write_all(b"hello");
                    let _ = client.flush();
                    rest(&client.sock)
                },
                async |conn| conn.map(drop),
            );
            let missing = TlsError::Certificate(Refused::Missing);
            assert_eq!(served, [Err(Error::Tls(missing))], "{mode:?} {version:?}");
        }
        let connector =
            TlsConnector::new(Arc::new(Choice::any().client(&authority)), mode).unwrap();
        let result = connect(connector, "no name", drop, async |conn| Ok(conn.data_path()));
        assert_eq!(result, Err(Error::Tls(TlsError::BadName)));
    }
}

#[test]
fn nothing_in_common_is_told_by_what() {
    let authority = Authority::new();
    let identity = authority.issue(NAME);
    for mode in modes() {
        for (server, client, what, alert) in [
            (Choice::suite(SUITES[0]), Choice::suite(SUITES[2]), Common::Cipher, 40),
            (Choice::suite(SUITES[3]), Choice::suite(SUITES[5]), Common::Cipher, 40),
            (Choice::version(&TLS13), Choice::version(&TLS12), Common::Version, 70),
        ] {
            let acceptor = TlsAcceptor::new(Arc::new(server.server(&identity)), mode).unwrap();
            let config = Arc::new(client.client(&authority));
            let (error, served) = Net::serve(
                acceptor,
                1,
                move |addr| {
                    let mut client = tls_client(addr, &config);
                    client.write_all(b"hello").and_then(|()| client.flush()).expect_err("refused")
                },
                async |conn| conn.map(drop),
            );
            assert_eq!(served, [Err(Error::Tls(TlsError::NothingInCommon(what)))], "{mode:?}");
            let told = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            let Some(rustls::Error::AlertReceived(told)) = told else { panic!("{error:?}") };
            assert_eq!(u8::from(*told), alert);

            // And of it, as a client: the alert.
            let connector = TlsConnector::new(Arc::new(client.client(&authority)), mode).unwrap();
            let server = quiet(Arc::new(server.server(&identity)));
            let result = connect(connector, NAME, server, async |conn| Ok(conn.data_path()));
            assert_eq!(result, Err(Error::Tls(TlsError::Alert(alert))), "{mode:?}");
        }
    }
}

#[test]
fn a_flood_of_tickets_is_bounded() {
    for mode in modes() {
        let site = Site::version(&TLS13);
        let connector = TlsConnector::new(site.client.clone(), mode).unwrap();
        let server = site.server.clone();
        let result = connect(
            connector,
            NAME,
            move |tcp| {
                let mut forger = Forger::server(tcp, server);
                // Lifetime, age, nonce, ticket, no extensions.
                let ticket = [
                    &[4, 0, 0, 4 + 4 + 2 + 2 + 8 + 2][..],
                    &[0, 0, 0, 60, 1, 2, 3, 4, 1, 7, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
                ]
                .concat();
                let ended = (0..100).try_for_each(|_| forger.send(HANDSHAKE, &[&ticket]));
                let _ = ended.and_then(|()| forger.send(DATA, &[b"hello"]));
                let _ = forger.send(ALERT, &[&[1, 0]]);
                rest(&forger.tcp);
            },
            async |mut conn| {
                while conn.recv().await?.is_some() {}
                Ok(conn.data_path())
            },
        );
        // rustls takes any number, and keeps the last few.
        let storm = Err(Error::Tls(TlsError::Storm));
        assert!(mode == Mode::Off && result.is_ok() || result == storm, "{mode:?}: {result:?}");
    }
}

#[test]
fn a_stalled_reader_holds_a_bounded_lot() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let site = Site::version(version);
        let config = site.client.clone();
        let (release, released) = mpsc::channel::<()>();
        let ((), served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| {
                let mut client = tls_client(addr, &config);
                client.flush().expect("a handshake");
                let _ = released.recv(); // reads nothing
            },
            async move |conn| {
                let mut conn = conn?;
                conn.set_send_timeout(Some(Duration::from_millis(300)));
                let mut sent = 0;
                let result = loop {
                    match conn.send(&[7u8; 100_000]).await {
                        Ok(()) => sent += 100_000,
                        Err(error) => break error,
                    }
                };
                let next = conn.send("more").await;
                release.send(()).expect("the client waits");
                kio::Result::Ok((result, next, sent < 1 << 30))
            },
        );
        let (result, next, bounded) = served[0].expect("a handshake");
        assert_eq!(result, Error::TimedOut, "{mode:?}");
        assert_eq!(next, Err(Error::WriteCut), "{mode:?}");
        assert!(bounded);
    }
}

#[test]
fn many_handshakes_leave_nothing() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let site = Site::version(version);
        let config = site.client.clone();
        let times = scaled(2_500);
        let ((), served) = Net::serve(
            site.acceptor(mode),
            times,
            move |addr| {
                for i in 0..times {
                    let mut client = tls_client(addr, &config);
                    // Some say goodbye, some do not, some break off in the handshake.
                    match i % 4 {
                        0 => drop(client.sock.write_all(&hello(&config).1[..50])),
                        1 => client.write_all(b"hello").expect("the server is there"),
                        _ => {
                            client.write_all(b"hello").expect("the server is there");
                            client.conn.send_close_notify();
                            client.flush().expect("the server is there");
                        }
                    }
                }
            },
            read_out,
        );
        for (i, served) in served.into_iter().enumerate() {
            match i % 4 {
                0 => assert!(served.is_err(), "{served:?}"),
                // The close may have been a reset: tickets were left unread.
                1 => assert!(matches!(served, Err(error) if error.is_routine()), "{served:?}"),
                _ => {
                    let routine = matches!(served, Err(error) if error.is_routine());
                    assert!(served == Ok(5) || routine, "{served:?}");
                }
            }
        }
    }
}

#[test]
fn a_key_update_that_wants_an_answer_gets_one_with_the_next_data() {
    for mode in modes() {
        if mode == Mode::Require && !kio::tls::support().rekey {
            println!("skipped: key updates by the kernel, which cannot");
            continue;
        }
        // The forger cannot follow to new keys: it counts what comes.
        let site = Site::version(&TLS13);
        let config = site.client.clone();
        let (reply, served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| {
                let mut forger = Forger::client(addr, &config);
                forger.send(HANDSHAKE, &[KEY_UPDATE_WANTED]).expect("the server reads");
                forger.tcp.shutdown(Shutdown::Write).expect("it is open");
                rest(&forger.tcp)
            },
            async |conn| {
                let mut conn = conn?;
                let end = conn.recv().await.map(drop);
                conn.send("answer").await?;
                conn.close().await?;
                end
            },
        );
        assert_eq!(served, [Err(Error::Tls(TlsError::Truncated))]);
        let mut records = Vec::new();
        let mut at = 0;
        while at < reply.len() {
            let len = usize::from(u16::from_be_bytes([reply[at + 3], reply[at + 4]]));
            records.push(len);
            at += 5 + len;
        }
        // 5 and 17 bytes of key update, 6 and 17 of data, 2 and 17 of close_notify.
        assert!(records.ends_with(&[22, 23, 19]), "{mode:?}: {records:?}");
    }
}

/// Sends bytes from a thread with a plain client, and tells what came back until close_notify.
fn talk(addr: SocketAddr, config: &Arc<ClientConfig>, sent: &[u8]) -> Vec<u8> {
    let mut client = tls_client(addr, config);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock).expect("an honest handshake");
    }
    let mut got = Vec::new();
    for part in sent.chunks(30_000) {
        client.write_all(part).expect("the server reads");
    }
    client.conn.send_close_notify();
    client.flush().expect("the server is there");
    client.read_to_end(&mut got).expect("the end is close_notify");
    got
}

#[test]
fn a_dropped_recv_loses_no_bytes() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let site = Site::version(version);
        let config = site.client.clone();
        let sent = pattern(scaled(400_000));
        let expected = sent.clone();
        let (_, served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| talk(addr, &config, &sent),
            async |conn| {
                let mut conn = conn?;
                let mut got = Vec::new();
                let mut into = conn.core().buf().await?;
                for i in 0.. {
                    // Given up after a poll or two, or a part of it is taken.
                    if i % 3 < 2 {
                        match poll_then_drop(1 + i % 2, conn.recv()).await {
                            Some(Ok(Some(data))) => got.extend_from_slice(&data),
                            Some(Ok(None)) => break,
                            Some(Err(error)) => return Err(error),
                            None => yield_now().await,
                        }
                        continue;
                    }
                    into.clear();
                    if conn.recv_into(&mut into).await? == 0 {
                        break;
                    }
                    got.extend_from_slice(&into);
                }
                drop(into);
                conn.close().await?;
                kio::Result::Ok(got)
            },
        );
        let got = served.into_iter().next().expect("one").expect("a clean end");
        assert!(got == expected, "{mode:?} {version:?}");
    }
}

/// A renegotiation (rustls refuses one, by an alert) comes in one segment with data: the receive that
/// decrypts both waits for its answer to go out, and is given up there.
#[test]
fn a_recv_dropped_while_it_answers_loses_no_bytes() {
    let site = Site::version(&TLS12);
    let connector = TlsConnector::new(site.client.clone(), Mode::Off).unwrap();
    let server = site.server.clone();
    let result = connect(
        connector,
        NAME,
        move |tcp| {
            let mut forger = Forger::server(tcp, server);
            let data = forger.seal(DATA, b"hello");
            let hello_request = forger.seal(HANDSHAKE, &[0, 0, 0, 0]);
            forger.tcp.write_all(&[data, hello_request].concat()).expect("the client reads");
            let _ = forger.send(ALERT, &[&[1, 0]]);
            rest(&forger.tcp);
        },
        async |mut conn| {
            let (mut got, mut given_up) = (Vec::new(), 0);
            loop {
                match poll_then_drop(1, conn.recv()).await {
                    Some(Ok(Some(data))) => got.extend_from_slice(&data),
                    Some(Ok(None)) => break,
                    Some(Err(error)) => return Err(error),
                    None => {
                        given_up += 1;
                        yield_now().await;
                    }
                }
            }
            assert_eq!(got, b"hello");
            assert!(given_up > 0, "nothing was given up");
            Ok(conn.data_path())
        },
    );
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn pushes_of_any_size_arrive_in_order_whatever_is_given_up() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let site = Site::version(version);
        let config = site.client.clone();
        let rounds = scaled(300);
        let (got, served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| talk(addr, &config, b""),
            async move |conn| {
                let mut conn = conn?;
                let mut pushed = Vec::new();
                let bytes: &'static [u8] = pattern(50_000).leak();
                for i in 0..rounds {
                    let part = &bytes[i..][..[1, 20, 300, 4000, 4097, 20_000, 45_000][i % 7]];
                    match i % 4 {
                        0 => conn.push(part).await?,
                        1 => conn.push_copy(part).await?,
                        2 => {
                            let mut buf = conn.core().buf().await?;
                            buf.put_some(part);
                            pushed.extend_from_slice(&buf);
                            conn.push(buf).await?;
                        }
                        _ => match conn.try_push(part) {
                            Ok(()) => {}
                            Err(_) => conn.send(part).await?,
                        },
                    }
                    if i % 4 != 2 {
                        pushed.extend_from_slice(part);
                    }
                    if i % 5 == 0 {
                        poll_then_drop(1, conn.flush()).await;
                    }
                }
                conn.shutdown().await?;
                while conn.recv().await?.is_some() {}
                conn.close().await?;
                kio::Result::Ok(pushed)
            },
        );
        let pushed = served.into_iter().next().expect("one").expect("a clean end");
        assert!(got == pushed, "{mode:?} {version:?}: {} of {}", got.len(), pushed.len());
    }
}

#[test]
fn small_pushes_make_one_record() {
    for mode in modes() {
        let site = Site::version(&TLS13);
        let config = site.client.clone();
        let (reply, served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| {
                let forger = Forger::client(addr, &config);
                rest(&forger.tcp)
            },
            async |conn| {
                let mut conn = conn?;
                conn.push("one").await?;
                conn.push_copy(b", two").await?;
                let mut buf = conn.core().buf().await?;
                buf.put(b", three")?;
                conn.push(buf).await?;
                conn.flush().await?;
                conn.close().await
            },
        );
        assert_eq!(served, [Ok(())]);
        // 15 bytes and 17, then close_notify.
        let data = 5 + 15 + 17;
        assert!(reply.len() >= data + 5 + 19, "{reply:?}");
        let end = &reply[reply.len() - data - 5 - 19..];
        assert_eq!(end[..5], [DATA, 3, 3, 0, 32], "{mode:?}: {reply:?}");
    }
}

#[test]
fn the_other_side_goes_on_after_one_has_ended() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let site = Site::version(version);
        let config = site.client.clone();
        let (got, served) = Net::serve(
            site.acceptor(mode),
            1,
            move |addr| talk(addr, &config, b"all of it"),
            async |conn| {
                let mut conn = conn?;
                while conn.recv().await?.is_some() {}
                assert_eq!(conn.recv().await?.as_deref(), None, "and again");
                conn.send("the answer").await?;
                let (recv, mut send) = conn.into_split();
                send.push(", from a half").await?;
                drop(send);
                // Dropped first, it has ended the write side in order.
                recv.core().sleep(Duration::from_millis(50)).await;
                kio::Result::Ok(())
            },
        );
        assert_eq!(served, [Ok(())]);
        assert_eq!(String::from_utf8(got).as_deref(), Ok("the answer, from a half"), "{mode:?}");
    }
}

/// That suite, whose keys protect only a few records.
fn short_lived(suite: rustls::SupportedCipherSuite, limit: u64) -> rustls::SupportedCipherSuite {
    let common = |of: &rustls::crypto::CipherSuiteCommon| rustls::crypto::CipherSuiteCommon {
        suite: of.suite,
        hash_provider: of.hash_provider,
        confidentiality_limit: limit,
    };
    match suite {
        rustls::SupportedCipherSuite::Tls13(of) => {
            let short = rustls::Tls13CipherSuite {
                common: common(&of.common),
                hkdf_provider: of.hkdf_provider,
                aead_alg: of.aead_alg,
                quic: None,
            };
            rustls::SupportedCipherSuite::Tls13(Box::leak(Box::new(short)))
        }
        rustls::SupportedCipherSuite::Tls12(of) => {
            let short = rustls::Tls12CipherSuite {
                common: common(&of.common),
                prf_provider: of.prf_provider,
                kx: of.kx,
                sign: of.sign,
                aead_alg: of.aead_alg,
            };
            rustls::SupportedCipherSuite::Tls12(Box::leak(Box::new(short)))
        }
    }
}

#[test]
fn keys_are_changed_before_they_are_used_up_or_the_connection_ends_in_order() {
    const RECORDS: usize = 200;
    for (mode, suite) in
        modes().into_iter().flat_map(|mode| [SUITES[0], SUITES[3]].map(|s| (mode, s)))
    {
        let authority = Authority::new();
        let server = Choice::suite(short_lived(suite, 100)).server(&authority.issue(NAME));
        let config = Arc::new(Choice::suite(suite).client(&authority));
        let acceptor = TlsAcceptor::new(Arc::new(server), mode).unwrap();
        let (got, served) = Net::serve(
            acceptor,
            1,
            move |addr| {
                let mut client = tls_client(addr, &config);
                let mut got = Vec::new();
                let ended = client.read_to_end(&mut got);
                let _ = client.sock.shutdown(Shutdown::Both);
                (got.len(), ended.map_err(|error| error.kind()))
            },
            async |conn| {
                let mut conn = conn?;
                for _ in 0..RECORDS {
                    conn.send("a record").await?;
                }
                conn.shutdown().await?;
                while conn.recv().await?.is_some() {}
                Ok(())
            },
        );
        assert_eq!(got.1, Ok(got.0), "the end is close_notify: {mode:?} {suite:?}");
        let tls13 = suite.version().version == TLS13.version;
        if tls13 && (mode == Mode::Off || kio::tls::support().rekey) {
            assert_eq!(got.0, 8 * RECORDS, "{mode:?}");
        } else {
            assert_eq!(served, [Err(Error::Tls(TlsError::KeysUsedUp))], "{mode:?} {suite:?}");
            assert!((8 * 40..=8 * 100).contains(&got.0), "{mode:?}: {}", got.0);
        }
    }
}
