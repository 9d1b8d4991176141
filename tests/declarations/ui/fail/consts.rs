//! A number that only const evaluation finds wrong.
const CONNS: i32 = -1;

kio::pool! {
    struct App;
    entry = serve,
    conns = CONNS,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
