//! Workers that may not be there.
kio::pool! {
    struct App;
    workers = ..=4,
    entry = serve,
    files = 64,
    routes = { "/a" => 0, "/b" => hash(0..2), _ => hash },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
