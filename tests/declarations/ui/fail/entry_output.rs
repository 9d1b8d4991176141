//! An entry that returns nothing.
kio::pool! { struct App; entry = serve }

async fn serve(_: kio::Core) {}

fn main() {}
