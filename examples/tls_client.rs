//! Asks an HTTPS server: `cargo run --example tls_client ADDR NAME ROOT.pem [PATH]`, as in
//! `tls_client 127.0.0.1:8443 localhost kio-example.pem` beside `https`. Asks twice, over two
//! connections: the second resumes the session of the first.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use kio::net::ConnectOptions;
use kio::tls::rustls::pki_types::{CertificateDer, pem::PemObject};
use kio::tls::rustls::{ClientConfig, RootCertStore};
use kio::tls::{Mode, TlsConnector};
use kio::{Core, Error, Result, Worker};

/// What is asked, and by whom it may be answered.
struct Ask {
    addr: SocketAddr,
    name: String,
    path: String,
    connector: TlsConnector,
}

impl kio::State for Ask {
    type Args = (SocketAddr, String, String, TlsConnector);

    fn init(_: Core, (addr, name, path, connector): &Self::Args) -> Result<Self> {
        let (name, path, connector) = (name.clone(), path.clone(), connector.clone());
        Ok(Self { addr: *addr, name, path, connector })
    }
}

async fn ask(worker: Worker<Client>) -> Result<()> {
    let state = worker.state();
    for _ in 0..2 {
        // A real descriptor, so that the kernel may do the records.
        let tcp = worker.connect_with(state.addr, ConnectOptions::new().real_fd()).await?;
        let mut conn = state.connector.connect(state.name.as_str(), tcp).await?;
        let info = conn.info();
        let how = if info.resumed() { "resumed" } else { "new" };
        println!("{:?}, {:?}, {how}, {}", info.version(), info.suite(), conn.data_path());
        let (path, name) = (&state.path, &state.name);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        conn.send_copy(request.as_bytes()).await?;
        // The end is the server's close_notify: without it this is an error.
        while let Some(data) = conn.recv().await? {
            io::stdout().write_all(&data)?;
        }
        conn.close().await?;
    }
    worker.stop();
    Ok(())
}

kio::pool! {
    struct Client;
    entry   = ask,
    state   = Ask,
    conns   = 4,
    buffers = 32 x 16 KiB,
    pin     = off,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(addr), Some(name), Some(root)) = (args.next(), args.next(), args.next()) else {
        return Err(Error::Other("arguments: ADDR NAME ROOT.pem [PATH]"));
    };
    let addr = addr.parse().map_err(|_| Error::Other("ADDR is as in 127.0.0.1:8443"))?;
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(root)
        .map_err(|_| Error::Other("ROOT.pem is a file with a certificate"))?;
    roots.add(root).map_err(|_| Error::Other("the root is no certificate"))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::new(Arc::new(config), Mode::Prefer)?;
    let path = args.next().unwrap_or_else(|| "/".into());
    Client::run((addr, name, path, connector))
}
