//! `N x SIZE` with less than that.
kio::pool! {
    struct App;
    entry = serve,
    spawn = 64,
    calls = 4 KiB,
    buffers = 2048x16 KiB,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
