//! The configuration, read again on SIGHUP: all workers take a good one over, and none a bad one.

use kio::{BufMut, Signal};

use crate::Worker;
use crate::config::Config;

/// Reads the file at each SIGHUP.
pub async fn reload(worker: Worker) -> kio::Result<()> {
    let mut signals = worker.signal(Signal::HUP)?;
    let state = worker.state();
    loop {
        signals.recv().await?;
        let done = renew(worker).await;
        match done {
            Ok(()) => {
                state.count(|numbers| numbers.reloads += 1);
                println!("reloaded");
            }
            Err(()) => state.count(|numbers| numbers.failed_reloads += 1),
        }
    }
}

async fn renew(worker: Worker) -> Result<(), ()> {
    let state = worker.state();
    let path = state.path.display();
    let text = match read(worker).await {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{path}: {error}; the running configuration is kept");
            return Err(());
        }
    };
    let config = Config::parse(&text).and_then(|new| new.follows(&state.config()).map(|()| new));
    let config = match config {
        Ok(config) => config,
        Err(mistake) => {
            eprintln!("{path}: {mistake}; the running configuration is kept");
            return Err(());
        }
    };
    let mut done = Ok(());
    for nth in 0..worker.workers() {
        let config = config.clone();
        let applied = worker.on(nth, async move |there| there.state().apply(&config)).await;
        match applied {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                eprintln!("worker {nth} keeps the old configuration: {why}");
                done = Err(());
            }
            Err(_) => return Err(()), // it stops
        }
    }
    done
}

/// The file's text, in one buffer: one that fills it is too long, as its reader will say.
async fn read(worker: Worker) -> kio::Result<BufMut> {
    let state = worker.state();
    let file = worker.open(state.path.as_path()).await?;
    file.read_full_at(worker.buf().await?, 0).await
}
