//! One client, from accept to its end.

use kio::net::{ConnectOptions, Listener, RelayOptions, TcpStream, relay_with};
use kio::{Buf, Core, Error};

use crate::Worker;
use crate::config::ProxyOut;
use crate::header::{self, Ends, Found};
use crate::health::told;
use crate::lease::{Lease, NoServer};
use crate::state::Tried;

/// Accepts clients of a listener for as long as there is room for them.
pub async fn accept(worker: Worker, mut listener: Listener, nth: usize) -> kio::Result<()> {
    loop {
        let place = worker.reserve(session).await?;
        let client = listener.accept().await?;
        place.spawn(move || session(worker, client, nth));
    }
}

/// Serves one client of a listener.
pub async fn session(worker: Worker, mut client: TcpStream, nth: usize) {
    let state = worker.state();
    state.count(|numbers| numbers.accepted += 1);
    // The errors are counted where they are known; a client is told by its connection's end.
    let _ = serve(worker, &mut client, nth).await;
    state.count(|numbers| numbers.ended += 1);
}

async fn serve(worker: Worker, client: &mut TcpStream, nth: usize) -> kio::Result<()> {
    let state = worker.state();
    let core = worker.core();
    let (listen, header_time, connect_time, idle, window) = {
        let config = state.config();
        let times = (config.header_timeout, config.connect_timeout, config.idle_timeout);
        (config.listeners[nth].clone(), times.0, times.1, times.2, config.window)
    };
    let peer = client.peer_addr()?;
    // A direct descriptor accepted on a wildcard address does not tell its own.
    let mut ends = Ends { from: peer, to: client.local_addr().unwrap_or(listen.addr) };
    let mut first = None;
    if listen.proxy_in {
        let read = core.timeout(header_time, read_header(core, client)).await;
        match read.unwrap_or(Err(Error::TimedOut)) {
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
    let mut tried = Tried::new();
    let (lease, mut server) = loop {
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
        let options = ConnectOptions::new().timeout(connect_time);
        match core.connect_with(lease.addr, options).await {
            Ok(server) => break (lease, server),
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => {
                if let Some(up) = lease.failed() {
                    told(worker, lease.place, up);
                }
                let _ = tried.push(lease.place);
                if tried.len() > state.group(nth).retries as usize {
                    state.count(|numbers| numbers.no_server += 1);
                    return Err(error);
                }
                state.count(|numbers| numbers.retries += 1);
            }
        }
    };
    match state.group(nth).proxy_out {
        ProxyOut::Off => {}
        ProxyOut::V1 => server.push_copy(&header::write_v1(ends)).await?,
        ProxyOut::V2 => server.push_copy(&header::write_v2(ends)).await?,
    }
    let ahead = first.as_ref().map_or(0, |rest| rest.len() as u64);
    if let Some(rest) = first.take() {
        server.push(rest).await?;
    }
    state.count(|numbers| numbers.relays += 1);
    let options = RelayOptions::new().idle_timeout(idle).window(window);
    let done = relay_with(client, &mut server, options).await;
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
