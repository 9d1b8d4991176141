//! What is said of files, and there are none.
struct State;

impl kio::State for State {
    type Args = ();

    fn init(_: kio::Core, _: &()) -> kio::Result<Self> {
        Ok(Self)
    }
}

fn dir(_: &State) -> &str {
    "/srv"
}

kio::pool! {
    struct App;
    entry = serve,
    state = State,
    allow = [paths],
    root = dir,
    routes = { _ => hash },
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
