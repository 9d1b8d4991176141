//! A state that is none.
struct State;

kio::pool! {
    struct App;
    entry = serve,
    state = State,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
