//! A pool without a name, a generic one, one with a body.
kio::pool! { workers = 2 }
kio::pool! {}
kio::pool! { struct A<T>; entry = serve }
kio::pool! { struct B { } entry = serve }

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
