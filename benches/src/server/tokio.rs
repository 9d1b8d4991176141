//! The idiomatic tokio server: current-thread runtime, a task and a 16 KiB buffer a connection.

use std::io;

use ::tokio::io::{AsyncReadExt, AsyncWriteExt};
use ::tokio::net::{TcpListener, TcpStream};
use ::tokio::runtime::Builder;
use ::tokio::signal::unix::{SignalKind, signal};

use super::{Options, ready, served};
use crate::Result;
use crate::sys;
use crate::workload::{Scanner, Workload, replies};

/// Bytes a connection reads at once.
const READ: usize = 16 * 1024;

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    if !options.spin.is_zero() {
        return Err("tokio has no spinning before sleep".into());
    }
    let workload = options.workload;
    let listener = std::net::TcpListener::from(sys::listen(options.port)?);
    Builder::new_current_thread().enable_io().build()?.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        let mut stop = signal(SignalKind::terminate())?;
        let port = listener.local_addr()?.port();
        ::tokio::spawn(accept(listener, workload));
        ready(port)?;
        stop.recv().await;
        Ok(())
    })
}

async fn accept(listener: TcpListener, workload: Workload) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            ::tokio::task::yield_now().await;
            continue;
        };
        ::tokio::spawn(async move {
            // A client that goes away is no fault of the server's.
            let _ = match workload {
                Workload::Http => http(stream).await,
                Workload::Echo => echo(stream).await,
                Workload::Close => close(stream).await,
            };
        });
    }
}

async fn http(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
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
            let sent = (bytes.len() / crate::workload::REPLY.len()) as u32;
            served(sent);
            owed -= sent;
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0; READ];
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..n]).await?;
        served(1);
    }
}

async fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0; READ];
    let mut scanner = Scanner::default();
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        if scanner.count(&buf[..n]) > 0 {
            stream.write_all(replies(1)).await?;
            served(1);
            return Ok(());
        }
    }
}
