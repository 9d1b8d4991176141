//! Certificates as files, and servers that speak TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kio_tests::tls::{Authority, Choice, Client, Identity, tls_over};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::{HANG, Server, patient};

/// A plain TLS client over any connection.
pub type Tls<S> = StreamOwned<ClientConnection, S>;
pub type TlsServer = StreamOwned<ServerConnection, TcpStream>;

/// A folder of certificates and keys, gone when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("kio-proxy-tls-{}-{nth}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a place for files");
        Self(folder)
    }

    pub fn put(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        // In one step, as who replaces a certificate under a running proxy does.
        let new = path.clone() + ".new";
        std::fs::write(&new, text).expect("a place for files");
        std::fs::rename(&new, &path).expect("one folder");
        path
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path of text").into()
    }

    /// The words by which the proxy shows that certificate.
    pub fn own(&self, name: &str, identity: &Identity) -> String {
        let cert = self.put(&format!("{name}.pem"), &chain(identity));
        let key = self.put(&format!("{name}.key"), &pem_of("PRIVATE KEY", identity.key_der()));
        format!("cert={cert} key={key}")
    }

    /// The words by which the proxy trusts that authority.
    pub fn ca(&self, name: &str, authority: &Authority) -> String {
        let text = pem_of("CERTIFICATE", authority.root());
        format!("ca={}", self.put(&format!("{name}.ca"), &text))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn pem_of(kind: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(kind, der))
}

pub fn chain(identity: &Identity) -> String {
    identity.chain.iter().map(|cert| pem_of("CERTIFICATE", cert)).collect()
}

/// A server that shakes hands and lets `serve` go on.
pub fn serving(config: ServerConfig, serve: impl Fn(TlsServer) + Send + Sync + 'static) -> Server {
    let config = Arc::new(config);
    Server::serving(any(), move |conn| serve(server_over(conn, &config)))
}

pub fn any() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

pub fn server_over(conn: TcpStream, config: &Arc<ServerConfig>) -> TlsServer {
    StreamOwned::new(ServerConnection::new(config.clone()).expect("a configuration"), conn)
}

/// Says its name, and then sends back what comes until its client ends.
pub fn echo(name: &'static str, mut conn: TlsServer) {
    let _ = conn.write_all(name.as_bytes());
    let mut bytes = [0; 16 << 10];
    while let Ok(n @ 1..) = conn.read(&mut bytes) {
        if conn.write_all(&bytes[..n]).is_err() {
            return;
        }
    }
    end(&mut conn);
}

/// An echo with that certificate.
pub fn named(name: &'static str, identity: &Identity) -> Server {
    serving(Choice::any().server(identity), move |conn| echo(name, conn))
}

/// Ends in order.
pub fn end(conn: &mut TlsServer) {
    conn.conn.send_close_notify();
    let _ = conn.flush();
}

pub fn client(addr: SocketAddr, authority: &Authority) -> Client {
    let conn = patient(TcpStream::connect_timeout(&addr, HANG).expect("it listens"));
    tls_over(conn, &Arc::new(Choice::any().client(authority)))
}

/// Sends bytes and reads them back, in turns; then ends in order and sees the same of the other side.
pub fn exchanges<S: Read + Write>(client: &mut Tls<S>, bytes: &[u8]) {
    let mut back = vec![0; 48 << 10];
    for part in bytes.chunks(48 << 10) {
        client.write_all(part).expect("the proxy reads");
        client.flush().expect("the proxy reads");
        client.read_exact(&mut back[..part.len()]).expect("they come back");
        assert!(back[..part.len()] == *part, "bytes were changed on the way");
    }
    client.conn.send_close_notify();
    client.flush().expect("the proxy reads");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an orderly end");
    assert!(rest.is_empty());
}

/// What the server says first: its name, one letter.
pub fn name<S: Read + Write>(client: &mut Tls<S>) -> char {
    let mut byte = [0];
    client.read_exact(&mut byte).expect("a server speaks");
    byte[0].into()
}

/// Whether it ends, in order or not, without a byte.
pub fn ends(client: &mut Client) -> bool {
    !matches!(client.read(&mut [0]), Ok(1..))
}
