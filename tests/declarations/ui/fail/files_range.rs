//! Counts of files that cannot be, and other words.
kio::pool! {
    struct App;
    entry = serve,
    conns = 1024,
    files = 1_048_000,
    file_ops = 5000,
    registered = on,
    allow = [paths, paths, udp, path],
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
