//! Units that are missing, unknown, or of the wrong kind.
kio::pool! {
    struct App;
    entry = serve,
    spawn = 64 x 4096,
    calls = 64 x 256 b,
    conns = 64 KiB,
    buffers = 64 x 16 ms,
    stall = 10,
    stack = 128 KB,
    drain = 1.5 s,
    budget = 80 s,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
