//! A task that is given what it cannot keep. Its function may take a reference: to a static.
kio::pool! {
    struct App;
    entry = serve,
    tasks = { task: 1 },
}

async fn task(_: &str) {}

async fn serve(worker: kio::Worker<App>) -> kio::Result<()> {
    drop(worker.spawn(|| task("static")));
    let text = std::env::args().collect::<String>();
    drop(worker.spawn(|| task(&text)));
    Ok(())
}

fn main() {}
