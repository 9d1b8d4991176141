//! A function that cannot be told of failures.
kio::pool! {
    struct App;
    entry = serve,
    on_error = failed,
}

fn failed(_: u32) {}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
