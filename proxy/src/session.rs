//! One client, from accept to its end.

use std::time::Duration;

use kio::net::{Listener, RelayError, RelayOptions, Relayed, Stream, TcpStream, relay_with};
use kio::{Buf, Core, Error};

use crate::Worker;
use crate::header::{self, Ends, Found};
use crate::health::note;
use crate::lease::{Lease, NoServer};
use crate::server::{Server, reach};
use crate::state::Tried;
use crate::tls::{Acceptor, TlsStream};

/// Accepts clients of a listener for as long as there is room for them.
pub async fn accept(worker: Worker, mut listener: Listener, nth: usize) -> kio::Result<()> {
    loop {
        let place = worker.reserve(session).await?;
        let client = listener.accept().await?;
        place.spawn(move || session(worker, client, nth));
    }
}

/// Serves one client of a listener.
pub async fn session(worker: Worker, client: TcpStream, nth: usize) {
    let state = worker.state();
    state.count(|numbers| numbers.accepted += 1);
    // The errors are counted where they are known; a client is told by its connection's end.
    let _ = serve(worker, client, nth).await;
    state.count(|numbers| numbers.ended += 1);
}

/// Hears who the client is, shakes hands with it where the listener has TLS, and brings it to a server.
async fn serve(worker: Worker, mut client: TcpStream, nth: usize) -> kio::Result<()> {
    let state = worker.state();
    let (listen, limit) = {
        let config = state.config();
        (config.listeners[nth].clone(), config.header_timeout)
    };
    let acceptor = state.acceptor(nth);
    let peer = client.peer_addr()?;
    // A direct descriptor accepted on a wildcard address does not tell its own.
    let mut ends = Ends { from: peer, to: client.local_addr().unwrap_or(listen.addr) };
    let mut first = None;
    if listen.proxy_in {
        let core = worker.core();
        let header = async {
            match &acceptor {
                None => read_header(core, &mut client).await,
                Some(acceptor) => Ok((acceptor.header(&mut client).await?, None)),
            }
        };
        match core.timeout(limit, header).await.unwrap_or(Err(Error::TimedOut)) {
            Ok((told, rest)) => {
                ends = told.unwrap_or(ends);
                first = rest;
            }
            Err(error) => {
                state.count(|numbers| numbers.wrong_headers += 1);
                return Err(error);
            }
        }
    }
    match acceptor {
        None => bring(worker, client, nth, ends, first).await,
        // On the heap, as all of TLS: in the slot it would be there for each client without, too.
        Some(acceptor) => {
            Box::pin(async move {
                let client = shake(worker, client, acceptor, limit).await?;
                bring(worker, client, nth, ends, None).await
            })
            .await
        }
    }
}

async fn shake(
    worker: Worker,
    client: TcpStream,
    acceptor: Acceptor,
    limit: Duration,
) -> kio::Result<TlsStream> {
    let done = acceptor.accept(client, limit).await;
    worker.state().count(|numbers| match &done {
        Ok(_) => numbers.handshakes += 1,
        Err(_) => numbers.failed_handshakes += 1,
    });
    done
}

/// Finds a server for a client, and relays between them until both have ended.
async fn bring<C: Stream>(
    worker: Worker,
    mut client: C,
    nth: usize,
    ends: Ends,
    first: Option<Buf>,
) -> kio::Result<()> {
    let state = worker.state();
    let (lease, server) = find(worker, nth, ends).await?;
    let options = {
        let config = state.config();
        RelayOptions::new().idle_timeout(config.idle_timeout).window(config.window)
    };
    state.count(|numbers| numbers.relays += 1);
    let ahead = first.as_ref().map_or(0, |rest| rest.len() as u64);
    let done = match server {
        Server::Plain(mut server) => relay_behind(&mut client, &mut server, first, options).await,
        Server::Tls(mut server) => {
            Box::pin(relay_behind(&mut client, &mut server, first, options)).await
        }
    };
    let relayed = done.unwrap_or_else(|failed| failed.relayed);
    lease.carried(relayed.a_to_b + ahead, relayed.b_to_a);
    if let Err(failed) = &done {
        state.count(|numbers| match failed.error {
            Error::TimedOut => numbers.timeouts += 1,
            _ => numbers.resets += 1,
        });
    }
    Ok(())
}

/// Relays, behind what was received already.
async fn relay_behind<C: Stream, S: Stream>(
    client: &mut C,
    server: &mut S,
    first: Option<Buf>,
    options: RelayOptions,
) -> Result<Relayed, RelayError> {
    if let Some(rest) = first {
        let relayed = Relayed::default();
        server.push(rest).await.map_err(|error| RelayError { error, relayed })?;
    }
    relay_with(client, server, options).await
}

/// A server that could be reached, of those that the group allows to try.
async fn find(worker: Worker, nth: usize, ends: Ends) -> kio::Result<(Lease, Server)> {
    let state = worker.state();
    let core = worker.core();
    let mut tried = Tried::new();
    loop {
        let got = Lease::get(core, worker.state(), nth, ends.from.ip(), &tried).await;
        let lease = match got {
            Ok(lease) => lease,
            Err(why) => {
                state.count(|numbers| match why {
                    NoServer::Down => numbers.no_server += 1,
                    NoServer::Late => numbers.wait_timeouts += 1,
                });
                return Err(Error::TimedOut);
            }
        };
        match reach(core, lease.addr, &state.way_of(nth), Some(ends)).await {
            Ok(server) => {
                state.fails(lease.place, false);
                return Ok((lease, server));
            }
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => {
                lease.failed();
                note(worker, lease.place, Err(error));
                let _ = tried.push(lease.place);
                if tried.len() > state.group(nth).retries as usize {
                    state.count(|numbers| numbers.no_server += 1);
                    return Err(error);
                }
                state.count(|numbers| numbers.retries += 1);
            }
        }
    }
}

/// Reads a client's PROXY header: who it is, and what followed.
async fn read_header(
    core: Core,
    client: &mut TcpStream,
) -> kio::Result<(Option<Ends>, Option<Buf>)> {
    let mut bytes = core.buf().await?;
    loop {
        if client.recv_into(&mut bytes).await? == 0 {
            return Err(Error::Other("the client ended within its PROXY header"));
        }
        match header::read(&bytes) {
            Found::Part => {}
            Found::Wrong => return Err(Error::Other("no PROXY header, or a wrong one")),
            Found::Header(len, ends) => {
                bytes.consume(len);
                let rest = (!bytes.is_empty()).then(|| bytes.freeze());
                return Ok((ends, rest));
            }
        }
    }
}
