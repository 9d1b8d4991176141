//! The configuration, read again on SIGHUP: all workers take a good one over, and none a bad one.

use kio::{Error, Signal};

use crate::Worker;
use crate::config::{Config, FILE_MAX};

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
    let mut text = heapless::Vec::<u8, READ_MAX>::new();
    if let Err(error) = read(worker, &mut text).await {
        eprintln!("{path}: {error}; the running configuration is kept");
        return Err(());
    }
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

/// What is read at most: one byte more than may be, so that more shows.
const READ_MAX: usize = FILE_MAX + 1;

async fn read(worker: Worker, text: &mut heapless::Vec<u8, READ_MAX>) -> kio::Result<()> {
    let state = worker.state();
    let path = state.path.as_path();
    let file = worker.open(path).await?;
    loop {
        let buf = worker.buf().await?;
        let buf = file.read_at(buf, text.len() as u64).await?;
        if buf.is_empty() {
            return Ok(());
        }
        let room = text.capacity() - text.len();
        if room == 0 {
            return Ok(()); // too long, as its reader will say
        }
        let bytes = &buf[..buf.len().min(room)];
        text.extend_from_slice(bytes).map_err(|_| Error::Other("the file is too long"))?;
    }
}
