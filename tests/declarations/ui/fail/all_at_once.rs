//! Every mistake is reported at once, and the rest of the file has none of its own.
struct State;

impl kio::State for State {
    type Args = u32;

    fn init(_: kio::Core, _: &u32) -> kio::Result<Self> {
        Ok(Self)
    }
}

kio::pool! {
    /// A pool.
    pub struct App;
    worker = 2,
    entry = serve,
    state = State,
    tasks = { task 64, other: many },
    conns: 64,
    buffers = 64 x 16 KB
    harden = maybe,
    pin = 0,
    idle = doze,
    signals = [TERM],
}

async fn task() {}

async fn serve(worker: kio::Worker<App>) -> kio::Result<()> {
    let _: kio::StateRef<State> = worker.state();
    drop(worker.spawn(task));
    Ok(())
}

fn main() -> kio::Result<()> {
    let _: u64 = App::FOOTPRINT.total();
    App::start(1)?.join()?;
    App::run(1)
}
