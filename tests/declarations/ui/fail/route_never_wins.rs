//! A pattern that can never win: another is every path already.
kio::pool! {
    struct App;
    entry = serve,
    files = 64,
    routes = { "/wal/*" => 0, "/**" => hash, _ => 0 },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
