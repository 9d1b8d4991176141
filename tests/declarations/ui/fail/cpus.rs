//! More workers than CPUs are listed, and a CPU that is none.
kio::pool! {
    struct App;
    workers = 3,
    entry = serve,
    pin = [0, 1, 4096],
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
