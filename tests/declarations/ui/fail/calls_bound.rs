//! A call that would take a socket, which belongs to its worker, to another.
kio::pool! {
    struct App;
    workers = 2,
    entry = serve,
}

async fn serve(worker: kio::Worker<App>) -> kio::Result<()> {
    let conn = worker.connect("127.0.0.1:1").await?;
    worker.on(1, async move |_| drop(conn)).await?;
    Ok(())
}

fn main() {
    let _ = App::run();
}
