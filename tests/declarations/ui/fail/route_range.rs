//! Ranges that hold no worker.
kio::pool! {
    struct App;
    workers = 4,
    entry = serve,
    files = 64,
    routes = { "/a" => hash(2..2), "/b" => hash(3..=1), "/c" => hash(3..1) },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
