//! Signals that need no line, cannot be handled, or are none.
kio::pool! {
    struct App;
    entry = serve,
    signals = [INT, KILL, SIGHUP, USR3, FOO],
}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
