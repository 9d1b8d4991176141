//! More buffers kept for sends than there are.
kio::pool! {
    struct App;
    entry = serve,
    buffers = 64 x 4 KiB,
    reserve = 64,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
