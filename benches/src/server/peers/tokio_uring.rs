//! The tokio-uring server.

use std::io;

use ::tokio_uring::buf::BoundedBuf;
use ::tokio_uring::net::{TcpListener, TcpStream};

use super::super::{Options, ready, served};
use super::READ;
use crate::Result;
use crate::workload::{REPLY, Scanner, Workload, replies};

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    let workload = options.workload;
    let (listener, port) = super::begin(options, "tokio-uring")?;
    let mut builder = ::tokio_uring::builder();
    builder.entries(1024).uring_builder(&super::cooperative());
    builder.start(async move {
        let listener = TcpListener::from_std(listener);
        ready(port)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            ::tokio_uring::spawn(async move {
                // A client that goes away is no fault of the server's.
                let _ = match workload {
                    Workload::Http => http(stream).await,
                    Workload::Echo => echo(stream).await,
                    Workload::Close => close(stream).await,
                };
            });
        }
    })
}

async fn http(stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(READ);
    let mut scanner = Scanner::default();
    loop {
        let (n, back) = stream.read(buf).await;
        buf = back;
        let n = n?;
        if n == 0 {
            return Ok(());
        }
        let mut owed = scanner.count(&buf[..n]);
        while owed > 0 {
            let bytes = replies(owed);
            stream.write_all(bytes).await.0?;
            let sent = (bytes.len() / REPLY.len()) as u32;
            served(sent);
            owed -= sent;
        }
    }
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(READ);
    loop {
        let (n, back) = stream.read(buf).await;
        let n = n?;
        if n == 0 {
            return Ok(());
        }
        let (sent, part) = stream.write_all(back.slice(..n)).await;
        sent?;
        served(1);
        buf = part.into_inner();
    }
}

async fn close(stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(READ);
    let mut scanner = Scanner::default();
    loop {
        let (n, back) = stream.read(buf).await;
        buf = back;
        let n = n?;
        if n == 0 {
            return Ok(());
        }
        if scanner.count(&buf[..n]) > 0 {
            stream.write_all(replies(1)).await.0?;
            served(1);
            return Ok(());
        }
    }
}
