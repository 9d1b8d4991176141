//! Numbers that are fine alone and whose sums are more than can be addressed.
kio::pool! {
    struct App;
    workers = 1,
    entry = serve,
    tasks = { one: 2147483648 },
    spawn = 2147483648 x 1 GiB,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

async fn one() {}

kio::pool! {
    struct Large;
    workers = 256,
    entry = serve,
    spawn = 64 x 1 MiB,
    buffers = 16 x 4 KiB,
}

fn main() {}
