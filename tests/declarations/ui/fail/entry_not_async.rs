//! An entry that is a plain function.
kio::pool! { struct App; entry = serve }

fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
