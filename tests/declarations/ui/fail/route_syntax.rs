//! Lines of `routes` that are none.
kio::pool! {
    struct App;
    entry = serve,
    files = 64,
    routes = { cache => 0, "/a": 0, "/b" => *, "/c" => hash(1), "/d" => hash(1..2 3), "/e" => "0" },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
