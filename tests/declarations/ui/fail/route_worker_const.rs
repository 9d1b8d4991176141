//! A worker that only const evaluation finds missing.
const WAL: u8 = 2;

kio::pool! {
    struct App;
    workers = 2,
    entry = serve,
    files = 64,
    routes = { "/wal/*" => WAL },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
