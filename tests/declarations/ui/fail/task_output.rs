//! A task that returns what nobody would read.
kio::pool! {
    struct App;
    entry = serve,
    tasks = { task: 1 },
}

async fn task() -> u32 {
    1
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
