//! A task that is a plain function.
kio::pool! {
    struct App;
    entry = serve,
    tasks = { task: 1 },
}

fn task() {}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
