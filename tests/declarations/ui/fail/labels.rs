//! Two tasks of one name.
kio::pool! {
    struct App;
    entry = serve,
    tasks = { a::run: 1, b::run: 1, a::other as run: 1 },
}

mod a {
    pub async fn run() {}
    pub async fn other() {}
}

mod b {
    pub async fn run() {}
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
