//! Stars where none may stand.
kio::pool! {
    struct App;
    entry = serve,
    files = 64,
    routes = { "/a/*/b" => 0, "**/a" => 0, "/a/b**" => 0, "/a/*b*" => 0, "/***" => 0 },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
