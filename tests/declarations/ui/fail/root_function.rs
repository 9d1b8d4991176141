//! A root that is no path.
struct State;

impl kio::State for State {
    type Args = ();

    fn init(_: kio::Core, _: &()) -> kio::Result<Self> {
        Ok(Self)
    }
}

fn dir(_: &State) -> u32 {
    1
}

kio::pool! {
    struct App;
    entry = serve,
    state = State,
    files = 64,
    root = dir,
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
