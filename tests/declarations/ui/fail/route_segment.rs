//! Segments that no path has once it is normal.
kio::pool! {
    struct App;
    entry = serve,
    files = 64,
    routes = { "" => 0, "/" => 0, "./a" => 0, "/a/../b" => 0, "/a//b" => 0, "/a/" => 0 },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
