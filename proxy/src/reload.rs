//! The configuration, read again on SIGHUP: all workers take a good one over, and none a bad one.

use kio::{BufMut, Signal};

use crate::Worker;
use crate::config::{Config, Fault, Mistake};
use crate::tls::{self, Files, Shared, Tls};

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
    let loaded = match config {
        Ok(config) => load(worker, config).await,
        Err(mistake) => Err(mistake),
    };
    let (config, tls) = match loaded {
        Ok(loaded) => loaded,
        Err(mistake) => {
            eprintln!("{path}: {mistake}; the running configuration is kept");
            return Err(());
        }
    };
    let mut done = Ok(());
    for nth in 0..worker.workers() {
        let (config, tls) = (config.clone(), tls.clone());
        let applied = worker.on(nth, async move |there| there.state().apply(&config, tls)).await;
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

/// What a configuration asks of TLS, from files read anew.
async fn load(worker: Worker, config: Config) -> Result<(Config, Shared), Mistake> {
    let mut files = Files::default();
    for name in tls::names(&config) {
        let read = read_all(worker, &name).await;
        let of = |error: kio::Error| Fault::Unreadable(error.errno().unwrap_or_default());
        files.put(name, read.map_err(of));
    }
    let tls = Tls::load(&config, &files)?;
    Ok((config, tls))
}

/// All of a file, and no more than is taken of one.
async fn read_all(worker: Worker, path: &str) -> kio::Result<Vec<u8>> {
    let file = worker.open(path).await?;
    let mut bytes = Vec::new();
    let mut part = worker.buf().await?;
    while bytes.len() <= tls::FILE_MAX {
        part.clear();
        part = file.read_full_at(part, bytes.len() as u64).await?;
        if part.is_empty() {
            break;
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}
