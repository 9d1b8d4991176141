//! Buffers that would not be page-aligned.
kio::pool! {
    struct App;
    entry = serve,
    buffers = 256 x 5000 B,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
