//! tokio-rustls as its users write it: current-thread runtime, a task and a 16 KiB buffer a
//! connection.

use std::io;

use ::tokio::io::{AsyncReadExt, AsyncWriteExt};
use ::tokio::net::{TcpListener, TcpStream};
use ::tokio::runtime::Builder;
use ::tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Result;
use crate::server::{Options, ready, served};
use crate::sys;
use crate::workload::{REPLY, Scanner, Workload, replies};

/// Bytes a connection reads at once.
const READ: usize = 16 * 1024;

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    if !options.spin.is_zero() {
        return Err("tokio has no spinning before sleep".into());
    }
    let workload = options.workload;
    let acceptor = TlsAcceptor::from(super::config()?);
    let listener = std::net::TcpListener::from(sys::listen(options.port)?);
    Builder::new_current_thread().enable_io().build()?.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        let mut stop = signal(SignalKind::terminate())?;
        let port = listener.local_addr()?.port();
        ::tokio::spawn(accept(listener, acceptor, workload));
        ready(port)?;
        stop.recv().await;
        Ok(())
    })
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, workload: Workload) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            ::tokio::task::yield_now().await;
            continue;
        };
        // A client that goes away is no fault of the server's.
        drop(::tokio::spawn(connection(acceptor.clone(), stream, workload)));
    }
}

async fn connection(acceptor: TlsAcceptor, tcp: TcpStream, workload: Workload) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut stream = acceptor.accept(tcp).await?;
    match workload {
        Workload::Http => http(&mut stream).await?,
        Workload::Echo => echo(&mut stream).await?,
        Workload::Close => close(&mut stream).await?,
    }
    stream.shutdown().await
}

async fn http(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let mut buf = vec![0; READ];
    let mut scanner = Scanner::default();
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        let mut owed = scanner.count(&buf[..n]);
        while owed > 0 {
            let bytes = replies(owed);
            stream.write_all(bytes).await?;
            stream.flush().await?;
            let sent = (bytes.len() / REPLY.len()) as u32;
            served(sent);
            owed -= sent;
        }
    }
}

async fn echo(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let mut buf = vec![0; READ];
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..n]).await?;
        stream.flush().await?;
        served(1);
    }
}

/// Answers one request; or to none, where the client ends at once.
async fn close(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let mut buf = vec![0; READ];
    let mut scanner = Scanner::default();
    loop {
        let n = stream.read(&mut buf).await?;
        if n > 0 && scanner.count(&buf[..n]) == 0 {
            continue;
        }
        if n > 0 {
            stream.write_all(REPLY).await?;
            stream.flush().await?;
        }
        served(1);
        return Ok(());
    }
}
