//! A pattern that is routed twice.
kio::pool! {
    struct App;
    entry = serve,
    files = 64,
    routes = { "/wal/*" => 0, "/db/**" => hash, "/wal/*" => hash, _ => 0, _ => hash },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
