//! The glommio server.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};

use ::glommio::net::{TcpListener, TcpStream};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::super::{Options, ready, served};
use super::READ;
use crate::Result;
use crate::workload::{REPLY, Scanner, Workload, replies};

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    let workload = options.workload;
    let (listener, port) = super::begin(options, "glommio")?;
    let executor = ::glommio::LocalExecutorBuilder::default().make().map_err(|e| e.to_string())?;
    executor.run(async move {
        // SAFETY: the descriptor is ours and given up here.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        ready(port)?;
        loop {
            let Ok(stream) = listener.accept().await else { continue };
            let serve = async move {
                // A client that goes away is no fault of the server's.
                let _ = match workload {
                    Workload::Http => http(stream).await,
                    Workload::Echo => echo(stream).await,
                    Workload::Close => close(stream).await,
                };
            };
            ::glommio::spawn_local(serve).detach();
        }
    })
}

fn nodelay(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true).map_err(|error| io::Error::other(error.to_string()))
}

async fn http(mut stream: TcpStream) -> io::Result<()> {
    nodelay(&stream)?;
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
            let sent = (bytes.len() / REPLY.len()) as u32;
            served(sent);
            owed -= sent;
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    nodelay(&stream)?;
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
    nodelay(&stream)?;
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
