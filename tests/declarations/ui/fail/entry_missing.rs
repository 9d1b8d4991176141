//! An entry that is not there.
kio::pool! { struct App; entry = srve }

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
