//! The monoio server.

use std::io;

use ::monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use ::monoio::net::{TcpListener, TcpStream};

use super::super::{Options, ready, served};
use super::READ;
use crate::Result;
use crate::workload::{REPLY, Scanner, Workload, replies};

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    let workload = options.workload;
    let (listener, port) = super::begin(options, "monoio")?;
    let mut runtime = ::monoio::RuntimeBuilder::<::monoio::IoUringDriver>::new()
        .with_entries(1024)
        .uring_builder(super::cooperative())
        .build()?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        ready(port)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            ::monoio::spawn(async move {
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

async fn http(mut stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(READ);
    let mut scanner = Scanner::default();
    loop {
        let (n, back) = stream.read(buf).await;
        buf = back;
        if n? == 0 {
            return Ok(());
        }
        let mut owed = scanner.count(&buf);
        while owed > 0 {
            let bytes = replies(owed);
            stream.write_all(bytes).await.0?;
            let sent = (bytes.len() / REPLY.len()) as u32;
            served(sent);
            owed -= sent;
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(READ);
    loop {
        let (n, back) = stream.read(buf).await;
        if n? == 0 {
            return Ok(());
        }
        let (sent, back) = stream.write_all(back).await;
        sent?;
        served(1);
        buf = back;
    }
}

async fn close(mut stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(READ);
    let mut scanner = Scanner::default();
    loop {
        let (n, back) = stream.read(buf).await;
        buf = back;
        if n? == 0 {
            return Ok(());
        }
        if scanner.count(&buf) > 0 {
            stream.write_all(replies(1)).await.0?;
            served(1);
            return Ok(());
        }
    }
}
