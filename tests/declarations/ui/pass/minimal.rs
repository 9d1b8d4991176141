//! The least a declaration can be.
#![forbid(unused)]

kio::pool! { struct App; entry = serve }

async fn serve(core: kio::Core) -> kio::Result<()> {
    core.stopping().await;
    Ok(())
}

fn main() {
    let _ = App::run;
}
