//! Numbers outside their ranges.
kio::pool! {
    struct App;
    workers = 0,
    entry = serve,
    tasks = { serve: 0 },
    calls = 0,
    conns = 2_000_000,
    buffers = 0 x 16 KiB,
    depth = 0,
    outbox = 4096,
    stack = 4 KiB,
    window = 99999999999999999999,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
