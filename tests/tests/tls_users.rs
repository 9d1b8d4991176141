//! Code of the user's that TLS runs in the middle of something, and that uses the connection or what
//! made it.

use std::cell::RefCell;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kio::net::ConnectOptions;
use kio::tls::{Mode, OwnedSendHalf, TlsAcceptor, TlsConnector};
use kio::{Core, Worker};
use kio_tests::HANG;
use kio_tests::tls::{Authority, Choice, Forger, NAME, Stage};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{NamedGroup, ServerConfig};

kio::pool! {
    struct Net;
    entry = idle,
    calls = 4 x 64 KiB,
    conns = 8,
    buffers = 32 x 16 KiB,
}

async fn idle(_: Core) -> kio::Result<()> {
    Ok(())
}

thread_local! {
    static HALF: RefCell<Option<OwnedSendHalf>> = const { RefCell::new(None) };
}

/// Drops the sending half when it is given a ticket.
#[derive(Debug)]
struct Drops;

impl ClientSessionStore for Drops {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        drop(HALF.take());
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

#[test]
fn a_half_may_be_dropped_by_who_keeps_the_tickets() {
    let authority = Authority::new();
    let choice = Choice::version(&TLS13);
    let mut server = choice.server(&authority.issue(NAME));
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 0; // but for the one below
    let mut client = choice.client(&authority);
    client.resumption = Resumption::store(Arc::new(Drops));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let forger = thread::spawn(move || {
        let tcp = listener.accept().expect("a client").0;
        let mut forger = Forger::server(tcp, Arc::new(server));
        forger.tcp.set_read_timeout(Some(HANG)).unwrap();
        // Lifetime, age, nonce, ticket, no extensions.
        let ticket = [
            &[4, 0, 0, 4 + 4 + 2 + 2 + 8 + 2][..],
            &[0, 0, 0, 60, 1, 2, 3, 4, 1, 7, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
        ]
        .concat();
        forger.send(22, &[&ticket]).unwrap();
        forger.send(23, &[b"hello"]).unwrap();
        let _ = forger.tcp.read_to_end(&mut Vec::new());
    });
    let connector = TlsConnector::new(Arc::new(client), Mode::Off).unwrap();
    let got = Net::on_worker(async move |worker: Worker<Net>| {
        let tcp = worker.connect_with(addr, ConnectOptions::new().real_fd()).await?;
        let (mut recv, mut send) = connector.connect(NAME, tcp).await?.into_split();
        send.send(&b"go"[..]).await?;
        HALF.set(Some(send));
        let got = recv.recv().await?.map(|data| data.to_vec());
        assert!(HALF.take().is_none(), "it was dropped meanwhile");
        kio::Result::Ok(got)
    });
    assert_eq!(got, Ok(Some(b"hello".to_vec())));
    forger.join().unwrap();
}

/// Reloads once more as it is dropped.
#[derive(Debug)]
struct Reloads(Mutex<Option<(TlsAcceptor, Arc<ServerConfig>)>>);

impl ResolvesServerCert for Reloads {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        if let Some((acceptor, config)) = self.0.get_mut().unwrap().take() {
            acceptor.reload(config);
        }
    }
}

#[test]
fn a_configuration_may_use_its_acceptor_as_it_is_dropped() {
    let authority = Authority::new();
    let plain = Choice::any().server(&authority.issue(NAME));
    let reloads = Arc::new(Reloads(Mutex::new(None)));
    let mut config = plain.clone();
    config.cert_resolver = reloads.clone();
    let acceptor = TlsAcceptor::new(Arc::new(config), Mode::Off).unwrap();
    let plain = Arc::new(plain);
    *reloads.0.lock().unwrap() = Some((acceptor.clone(), plain.clone()));
    drop(reloads);
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        acceptor.reload(plain);
        tell.send(())
    });
    assert_eq!(told.recv_timeout(HANG.min(Duration::from_secs(60))), Ok(()), "it hangs");
}
