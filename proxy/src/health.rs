//! Whether servers can be connected to, tried now and then by each worker for itself.

use std::net::SocketAddr;
use std::time::Duration;

use kio::net::ConnectOptions;

use crate::Worker;

/// Checks what is due, for as long as the worker runs.
pub async fn health(worker: Worker) -> kio::Result<()> {
    let state = worker.state();
    loop {
        match state.due(worker.now()) {
            Ok((place, addr, limit)) => {
                let room = worker.reserve(probe).await?;
                room.spawn(move || probe(worker, place, addr, limit));
            }
            // A reload may bring what is due sooner.
            Err(left) => worker.sleep(left.min(Duration::from_millis(250))).await,
        }
        if worker.is_stopping() {
            return Ok(());
        }
    }
}

/// Connects to a server, and notes how that went.
pub async fn probe(worker: Worker, place: usize, addr: SocketAddr, limit: Duration) {
    let state = worker.state();
    let tried = worker.connect_with(addr, ConnectOptions::new().timeout(limit)).await;
    state.probed(place);
    // Another server may have come to its place meanwhile.
    if state.address(place) == Some(addr)
        && let Some(up) = state.note(place, tried.is_ok())
    {
        told(worker, place, up);
    }
}

/// Says that a server went up or down.
pub fn told(worker: Worker, place: usize, up: bool) {
    if let Some(addr) = worker.state().address(place) {
        eprintln!("worker {}: server {addr} is {}", worker.index(), if up { "up" } else { "down" });
    }
}
