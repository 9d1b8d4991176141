//! A handler of the wrong argument.
kio::pool! { struct App; listen = { "127.0.0.1:80" => handle } }

async fn handle(_: u32) {}

fn main() {}
