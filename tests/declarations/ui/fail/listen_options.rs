//! Options of a listener that are none.
kio::pool! {
    struct App;
    listen = { "127.0.0.1:80" => handle { accept = own, real_fds = on, backlog = 5, tls } },
}

async fn handle(_: kio::net::TcpStream) {}

fn main() {}
