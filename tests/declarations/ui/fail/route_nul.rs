//! A pattern with a NUL.
kio::pool! {
    struct App;
    entry = serve,
    files = 64,
    routes = { "/a\0b" => 0 },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
