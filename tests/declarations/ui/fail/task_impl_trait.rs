//! A task of no one type.
kio::pool! {
    struct App;
    entry = serve,
    tasks = { task: 1 },
}

async fn task(_: impl Send) {}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
