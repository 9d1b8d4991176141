//! Addresses that are none.
kio::pool! {
    struct App;
    listen = {
        "localhost:80" => handle,
        ":80" => handle,
        "::1:80" => handle,
        "127.0.0.1" => handle,
    },
}

async fn handle(_: kio::net::TcpStream) {}

fn main() {}
