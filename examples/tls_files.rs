//! `static_files` over TLS, with a certificate made at start: `cargo run --release --example tls_files
//! [ADDR [DIR]]`, then `curl --cacert kio-example.pem https://localhost:8444/README.md`, with `-I` or
//! `-r 0-99` too. Where the kernel has TLS, a file's bytes go from its buffers to the wire in it.

mod dir;
mod http;
mod pages;
mod secure;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kio::tls::{TlsAcceptor, TlsStream};
use kio::{Core, Result};
use pages::REQUEST_MAX;

struct Files {
    addr: SocketAddr,
    dir: PathBuf,
    acceptor: TlsAcceptor,
}

impl kio::State for Files {
    type Args = ((SocketAddr, PathBuf), TlsAcceptor);

    fn init(_: Core, ((addr, dir), acceptor): &Self::Args) -> Result<Self> {
        Ok(Self { addr: *addr, dir: dir.clone(), acceptor: acceptor.clone() })
    }
}

impl Files {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

async fn serve(mut conn: TlsStream) -> Result<()> {
    conn.set_recv_timeout(Some(Duration::from_secs(60)));
    conn.set_send_timeout(Some(Duration::from_secs(60)));
    if pages::serve(&mut conn).await? { conn.finish(Duration::from_secs(2)).await } else { Ok(()) }
}

kio::pool! {
    struct Site;
    workers = ..=8,
    state   = Files,
    root    = Files::dir,
    routes  = { "**" => hash }, // a file is open on one worker, whoever asks for it
    listen  = { Files::addr => serve { tls = Files::acceptor } },
    conns   = 512,
    files   = 1024, // one for each reply, and what the others ask for
    buffers = 1024 x REQUEST_MAX,
}

fn main() -> Result<()> {
    let args = dir::from_args("127.0.0.1:8444")?;
    let acceptor = secure::acceptor()?;
    println!("open https://localhost:{}/", args.0.port());
    Site::run((args, acceptor))
}
