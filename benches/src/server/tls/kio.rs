//! kio with TLS in user space: a declared pool with one worker, as its users write it.

use std::time::Duration;

use ::kio::net::TcpStream;
use ::kio::tls::{Mode, TlsAcceptor, TlsStream};
use ::kio::{Core, Result as KioResult, Worker};

use crate::Result;
use crate::server::kio::{YIELD, yields};
use crate::server::{Options, ready, served};
use crate::workload::{REPLY, Scanner, Workload, replies};

/// How long a handshake may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is known at run time only.
#[derive(Clone)]
pub struct Setup {
    workload: Workload,
    port: u16,
    acceptor: TlsAcceptor,
}

impl ::kio::State for Setup {
    type Args = Self;

    fn init(_: Core, setup: &Self) -> KioResult<Self> {
        Ok(setup.clone())
    }
}

async fn http(mut conn: TlsStream) -> KioResult<()> {
    let mut scanner = Scanner::default();
    while let Some(data) = conn.recv_idle().await? {
        let mut owed = scanner.count(&data);
        drop(data);
        while owed > 0 {
            let bytes = replies(owed);
            conn.send(bytes).await?;
            let sent = (bytes.len() / REPLY.len()) as u32;
            served(sent);
            owed -= sent;
        }
    }
    conn.close().await
}

async fn echo(mut conn: TlsStream) -> KioResult<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
        served(1);
    }
    conn.close().await
}

/// Answers one request; or to none, where the client ends at once.
async fn close(mut conn: TlsStream) -> KioResult<()> {
    let mut scanner = Scanner::default();
    while let Some(data) = conn.recv_idle().await? {
        if scanner.count(&data) > 0 {
            conn.send(REPLY).await?;
            break;
        }
    }
    served(1);
    conn.close().await
}

async fn connection(worker: Worker<Server>, tcp: TcpStream) -> KioResult<()> {
    let state = worker.state();
    let conn = state.acceptor.accept(tcp).await?;
    match state.workload {
        Workload::Http => http(conn).await,
        Workload::Echo => echo(conn).await,
        Workload::Close => close(conn).await,
    }
}

async fn serve(worker: Worker<Server>) -> KioResult<()> {
    let mut listener = worker.listen(([127, 0, 0, 1], worker.state().port)).await?;
    let port = listener.local_addr()?.port();
    ready(port).map_err(|_| ::kio::Error::Other("cannot print the port"))?;
    if std::env::var_os(YIELD).is_some() {
        drop(worker.spawn(move || yields(worker.core()))?);
    }
    loop {
        let place = worker.reserve(connection).await?;
        let tcp = listener.accept().await?;
        place.spawn(move || connection(worker, tcp));
    }
}

::kio::pool! {
    pub struct Server;
    workers = 1,
    entry = serve,
    state = Setup,
    tasks = { connection: 1024 },
    conns = 1024,
    buffers = 1024 x 16 KiB,
    idle = park,
}

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    if !options.spin.is_zero() {
        return Err("kio-tls is declared without a spin".into());
    }
    // Under callgrind, on a CPU that is shared, the first handshakes take seconds.
    let acceptor = TlsAcceptor::new(super::config()?, Mode::Off)?.deadline(DEADLINE);
    Ok(Server::run(Setup { workload: options.workload, port: options.port, acceptor })?)
}
