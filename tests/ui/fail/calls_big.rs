//! Calls that do not fit a slot of the `calls` arena: by what they move, and by what they return.
kio::pool! {
    struct App;
    workers = 2,
    entry = serve,
    calls = 8 x 512 B,
}

async fn serve(worker: kio::Worker<App>) -> kio::Result<()> {
    let moved = [0u8; 1000];
    worker.on(1, async move |_| assert!(moved.len() == 1000)).await?;
    Ok(())
}

fn main() -> kio::Result<()> {
    let pool = App::start()?;
    let _ = pool.on(0, async |_| [0u8; 2000])?;
    pool.join()
}
