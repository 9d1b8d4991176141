//! A call that moves more than a slot of the `calls` arena holds.
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

fn main() {
    let _ = App::run();
}
