//! Calls that would take a worker's own things to another: a socket, and what a call returns.
kio::pool! {
    struct App;
    workers = 2,
    entry = serve,
}

async fn serve(worker: kio::Worker<App>) -> kio::Result<()> {
    let conn = worker.connect("127.0.0.1:1").await?;
    worker.on(1, async move |_| drop(conn)).await?;
    let _buf = worker.on(1, async |other| other.try_buf()).await?;
    Ok(())
}

fn main() {
    let _ = App::run();
}
