//! Calls under `forbid(unsafe_code)`: by key, to itself, and with a value that borrows nothing.
#![forbid(unsafe_code)]

use kio::{CallError, Worker};

kio::pool! {
    struct App;
    workers = 2,
    pin = off,
    entry = serve,
    calls = 8 x 512 B,
    conns = 1,
}

async fn serve(worker: Worker<App>) -> kio::Result<()> {
    let home = worker.by_key(b"a key");
    let name = String::from("a name that moves");
    let len: usize = worker.on(home, async move |home| home.index() * 100 + name.len()).await?;
    assert_eq!(len, home * 100 + 17);
    let own: Result<usize, CallError<_>> =
        worker.on(worker.index(), async |worker: Worker<App>| worker.index()).await;
    assert_eq!(own.ok(), Some(worker.index()));
    worker.stop();
    Ok(())
}

fn main() -> kio::Result<()> {
    App::run()
}
