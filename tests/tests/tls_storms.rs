//! Records that say nothing, without end: they end the connection or are swallowed, and others are
//! served meanwhile.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use kio::net::ListenOptions;
use kio::tls::{Mode, TlsAcceptor, TlsError};
use kio::{Core, Error, Worker};
use kio_tests::tls::{
    Authority, Choice, Forger, NAME, Stage, VERSIONS, modes, read_out, tls_client,
};
use kio_tests::{HANG, scaled};
use rustls::{ClientConfig, SupportedProtocolVersion};

const ALERT: u8 = 21;
const DATA: u8 = 23;

kio::pool! {
    struct Storms;
    entry = idle,
    spawn = 8 x 16 KiB,
    calls = 4 x 64 KiB,
    conns = 16,
    buffers = 64 x 4 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

/// An acceptor, and a client of it whose keys the test is told.
fn sides(
    mode: Mode,
    version: &'static SupportedProtocolVersion,
) -> (TlsAcceptor, Arc<ClientConfig>) {
    let authority = Authority::new();
    let choice = Choice::version(version);
    let server = Arc::new(choice.server(&authority.issue(NAME)));
    let mut client = choice.client(&authority);
    client.enable_secret_extraction = true;
    (TlsAcceptor::new(server, mode).expect("the mode is there"), Arc::new(client))
}

fn rest(mut tcp: &TcpStream) {
    let _ = tcp.read_to_end(&mut Vec::new());
}

#[test]
fn a_few_empty_records_are_nothing() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let (acceptor, client) = sides(mode, version);
        let (_, got) = Storms::serve_one(
            acceptor,
            move |addr| {
                let mut forger = Forger::client(addr, &client);
                for _ in 0..20 {
                    forger.send(DATA, &[&[][..]; 20]).expect("the server reads");
                    forger.send(DATA, &[b"hello"]).expect("the server reads");
                }
                forger.send(ALERT, &[&[1, 0]]).expect("the server reads");
                forger.tcp.shutdown(Shutdown::Write).expect("it is open");
                rest(&forger.tcp);
            },
            read_out,
        );
        assert_eq!(got, Ok(100), "{mode:?} {version:?}");
    }
}

/// Empty records, until it is told to stop or the connection ends. Tells how many. Without end where
/// rustls reads them; the kernel takes all there are in one call, so a storm that it opens no faster
/// than it comes would hold the worker for as long as it lasts (see `kio::tls`).
fn storm(forger: &mut Forger, mode: Mode, stop: &AtomicBool) -> u64 {
    let most = if mode == Mode::Off { u64::MAX } else { 4_000 };
    let mut sent = 0;
    while sent < most && !stop.load(Ordering::Relaxed) && forger.send(DATA, &[&[][..]; 200]).is_ok()
    {
        sent += 200;
    }
    sent
}

#[test]
fn others_are_served_in_a_storm_of_empty_records() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let (acceptor, client) = sides(mode, version);

        let (tell, told) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (begun, stopped) = (Arc::new(AtomicU64::new(0)), stop.clone());
        let (has_begun, others) = (begun.clone(), client.clone());
        let stormy = thread::spawn(move || {
            let addr = told.recv().expect("the server listens");
            let mut forger = Forger::client(addr, &client);
            forger.send(DATA, &[b"begin"]).expect("the server reads");
            begun.store(1, Ordering::Release);
            let sent = storm(&mut forger, mode, &stop);
            let _ = forger.tcp.shutdown(Shutdown::Write);
            rest(&forger.tcp);
            sent
        });
        let asks = scaled(200);
        let ended = Storms::on_worker(async move |worker: Worker<Storms>| {
            let core = worker.core();
            let options = ListenOptions::new().real_fds();
            let mut listener = core.listen_with("127.0.0.1:0", options).await?;
            let addr = listener.local_addr()?;
            tell.send(addr).expect("the client waits");
            let mut conn = acceptor.accept(listener.accept().await?).await?;
            assert_eq!(conn.recv().await?.as_deref(), Some(&b"begin"[..]));
            let reading = core.spawn(move || async move {
                let ended = conn.recv().await.map(drop);
                let _ = conn.close().await;
                ended
            })?;
            let asking = thread::spawn(move || {
                let mut client = tls_client(addr, &others);
                for _ in 0..asks {
                    client.write_all(b"hello").expect("the server reads");
                    client.read_exact(&mut [0; 5]).expect("a reply");
                }
                client.conn.send_close_notify();
                client.flush().expect("the server reads");
                rest(&client.sock);
                stopped.store(true, Ordering::Relaxed);
            });
            let mut other = acceptor.accept(listener.accept().await?).await?;
            while let Some(data) = other.recv().await? {
                other.send(data).await?;
            }
            other.close().await?;
            let longest = core.stats().turn_times.longest_ns;
            println!("{mode:?} {version:?}: the longest turn took {longest} ns");
            let ended = reading.await.expect("no panic");
            kio::Result::Ok((ended, asking))
        });
        let (ended, asking) = ended.expect("no error");
        asking.join().expect("it is served");
        let sent = stormy.join().expect("the forger ends");
        println!("{mode:?} {version:?}: {sent} empty records, then {ended:?}");
        assert_eq!(has_begun.load(Ordering::Acquire), 1);
        match mode {
            // rustls allows 32 of them in a row.
            Mode::Off => assert_eq!(ended, Err(TlsError::Storm.into())),
            // The kernel swallows them: what ends it is the end without close_notify.
            _ => assert_eq!(ended, Err(TlsError::Truncated.into())),
        }
    }
}

#[test]
fn a_storm_of_nothing_does_not_keep_a_receive_waiting_beyond_its_time() {
    for (mode, version) in modes().into_iter().flat_map(|mode| VERSIONS.map(|v| (mode, v))) {
        let (acceptor, client) = sides(mode, version);
        let (_, got) = Storms::serve_one(
            acceptor,
            move |addr| {
                let mut forger = Forger::client(addr, &client);
                forger.tcp.set_write_timeout(Some(HANG)).expect("a time");
                storm(&mut forger, mode, &AtomicBool::new(false));
                rest(&forger.tcp); // until the server closes
            },
            async |conn| {
                let mut conn = conn?;
                conn.set_recv_timeout(Some(Duration::from_millis(100)));
                conn.recv().await.map(drop)
            },
        );
        let expected = if mode == Mode::Off { TlsError::Storm.into() } else { Error::TimedOut };
        assert_eq!(got, Err(expected), "{mode:?} {version:?}");
    }
}
