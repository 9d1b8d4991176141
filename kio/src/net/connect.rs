//! Connecting to a peer.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::{TcpStream, ToAddr};
use crate::Core;
use crate::error::{Error, Result};
use crate::task::WaitNode;

/// How to connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectOptions {
    timeout: Option<Duration>,
    real_fd: bool,
    from: Option<SocketAddr>,
}

impl ConnectOptions {
    /// The defaults: as long as the system tries (about two minutes), from any address.
    pub const fn new() -> Self {
        Self { timeout: None, real_fd: false, from: None }
    }

    /// Gives up with `TimedOut` after so long.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Keeps a real descriptor beside the slot of the table.
    pub const fn real_fd(mut self) -> Self {
        self.real_fd = true;
        self
    }

    /// Connects from this address.
    pub const fn from(mut self, addr: SocketAddr) -> Self {
        self.from = Some(addr);
        self
    }
}

impl Core {
    /// Connects to a peer. Waits while every socket slot is taken.
    ///
    /// Cancel safety: given up, the attempt is cancelled and its slot freed. Errors: the system's
    /// (refused, unreachable), `Stopped`.
    pub async fn connect(self, addr: impl ToAddr) -> Result<TcpStream> {
        self.connect_with(addr, ConnectOptions::new()).await
    }

    /// Connects with options.
    pub async fn connect_with(
        self,
        addr: impl ToAddr,
        options: ConnectOptions,
    ) -> Result<TcpStream> {
        let addr = addr.to_addr()?;
        match options.timeout {
            Some(span) => self.timeout(span, self.connect_now(addr, options)).await?,
            None => self.connect_now(addr, options).await,
        }
    }

    async fn connect_now(self, addr: SocketAddr, options: ConnectOptions) -> Result<TcpStream> {
        let mut socket = Some(socket(addr, options.from)?);
        let at = {
            let mut node = pin!(WaitNode::new());
            poll_fn(|cx| {
                let parts = match self.parts() {
                    Ok(parts) if !parts.tasks.closed.get() => parts,
                    _ => return Poll::Ready(Err(Error::Stopped)),
                };
                match parts.io.start_connect(&mut socket, addr) {
                    Some(at) => Poll::Ready(Ok(at)),
                    None => {
                        parts.io.wait_socket(node.as_mut().as_ref(), cx);
                        Poll::Pending
                    }
                }
            })
            .await?
        };
        // From here the stream owns the slot: dropped, it cancels and closes.
        let stream = TcpStream::new(self, at);
        poll_fn(|cx| match self.parts() {
            Ok(parts) => parts.io.poll_connect(at, options.real_fd, cx),
            Err(stopped) => Poll::Ready(Err(stopped)),
        })
        .await?;
        Ok(stream)
    }
}

fn socket(addr: SocketAddr, from: Option<SocketAddr>) -> Result<OwnedFd> {
    let os = |errno: rustix::io::Errno| Error::os("connect", errno.raw_os_error());
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let made = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    );
    let fd = made.map_err(os)?;
    sockopt::set_tcp_nodelay(&fd, true).map_err(os)?;
    if let Some(from) = from {
        rustix::net::bind(&fd, &from).map_err(os)?;
    }
    Ok(fd)
}
