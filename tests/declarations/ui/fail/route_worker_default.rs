//! A worker that is not there, where the declaration does not say how many are.
kio::pool! {
    struct App;
    entry = serve,
    files = 64,
    routes = { "/a" => 1 },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
