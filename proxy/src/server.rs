//! The way to a server: connect, say who the client is, and shake hands where its group has TLS.

use std::net::SocketAddr;
use std::time::Duration;

use kio::net::{ConnectOptions, TcpStream};
use kio::{Core, Error};

use crate::config::ProxyOut;
use crate::header::{self, Ends};
use crate::tls::{self, Connector, TlsStream};

/// A connection to a server.
pub enum Server {
    Plain(TcpStream),
    Tls(TlsStream),
}

/// How a group's servers are spoken to.
#[derive(Clone)]
pub struct Way {
    pub proxy_out: ProxyOut,
    pub tls: Option<Connector>,
    /// For the whole way.
    pub limit: Duration,
}

/// Reaches a server for a client, or for a check where there is none.
pub async fn reach(
    core: Core,
    addr: SocketAddr,
    way: &Way,
    client: Option<Ends>,
) -> kio::Result<Server> {
    let begun = core.now();
    let left = || way.limit.saturating_sub(core.now().since(begun));
    let options = ConnectOptions::new().timeout(way.limit);
    let Some(connector) = &way.tls else {
        let mut server = core.connect_with(addr, options).await?;
        // A check says nothing.
        if client.is_some() {
            introduce(&mut server, left(), way.proxy_out, client).await?;
        }
        return Ok(Server::Plain(server));
    };
    // On the heap, as all of TLS: see `session`.
    Box::pin(async move {
        let options = if tls::real_fds() { options.real_fd() } else { options };
        let mut server = core.connect_with(addr, options).await?;
        introduce(&mut server, left(), way.proxy_out, client).await?;
        connector.connect(server, left()).await.map(Server::Tls)
    })
    .await
}

/// Pushes the PROXY header, which goes out with what is sent next.
async fn introduce(
    server: &mut TcpStream,
    limit: Duration,
    version: ProxyOut,
    client: Option<Ends>,
) -> kio::Result<()> {
    let header = match version {
        ProxyOut::Off => return Ok(()),
        ProxyOut::V1 => header::write_v1(client),
        ProxyOut::V2 => header::write_v2(client),
    };
    // It waits for a buffer, where those are short.
    server.core().timeout(limit, server.push_copy(&header)).await.unwrap_or(Err(Error::TimedOut))
}
