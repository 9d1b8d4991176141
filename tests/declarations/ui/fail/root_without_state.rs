//! A root that is a function of a state that is not declared.
fn dir(_: &()) -> &str {
    "/srv"
}

kio::pool! {
    struct App;
    entry = serve,
    files = 64,
    root = dir,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
