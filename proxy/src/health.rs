//! Whether servers can be connected to, and shake hands where they have TLS; tried now and then by each
//! worker for itself.

use std::net::SocketAddr;
use std::time::Duration;

use kio::Error;

use crate::Worker;
use crate::server::{Way, reach};

/// Checks what is due, for as long as the worker runs.
pub async fn health(worker: Worker) -> kio::Result<()> {
    let state = worker.state();
    loop {
        match state.due(worker.now()) {
            Ok((place, addr, way)) => {
                let room = worker.reserve(probe).await?;
                room.spawn(move || probe(worker, place, addr, way));
            }
            // A reload may bring what is due sooner.
            Err(left) => worker.sleep(left.min(Duration::from_millis(250))).await,
        }
        if worker.is_stopping() {
            return Ok(());
        }
    }
}

/// Reaches a server, and notes how that went.
pub async fn probe(worker: Worker, place: usize, addr: SocketAddr, way: Way) {
    let state = worker.state();
    let tried = reach(worker.core(), addr, &way, None).await.map(drop);
    state.probed(place);
    // Another server may have come to its place meanwhile.
    if state.address(place) == Some(addr) && tried != Err(Error::Stopped) {
        note(worker, place, tried);
    }
}

/// Notes how an attempt at a server went, and says what is new.
pub fn note(worker: Worker, place: usize, tried: Result<(), Error>) {
    let state = worker.state();
    let Some(addr) = state.address(place) else { return };
    let nth = worker.index();
    if state.fails(place, tried.is_err())
        && let Err(why) = tried
    {
        eprintln!("worker {nth}: server {addr}: {why}");
    }
    if let Some(up) = state.note(place, tried.is_ok()) {
        eprintln!("worker {nth}: server {addr} is {}", if up { "up" } else { "down" });
    }
}
