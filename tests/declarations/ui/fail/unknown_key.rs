//! Keys that are none: the closest one is named, or all are.
kio::pool! {
    struct App;
    entry = serve,
    buffer = 64 x 4 KiB,
    threads = 2,
    colour = blue,
    cold = 64,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
