//! An entry of the wrong argument.
kio::pool! { struct App; entry = serve }

async fn serve(_: u32) -> kio::Result<()> {
    Ok(())
}

fn main() {}
