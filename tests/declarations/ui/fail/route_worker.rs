//! Workers that are not there.
kio::pool! {
    struct App;
    workers = 2,
    entry = serve,
    files = 64,
    routes = { "/a" => 2, "/b" => hash(1..4), "/c" => hash(0..=2), "/d" => hash(0..2), "/e" => 1 },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
