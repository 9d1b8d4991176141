//! An address from a function of something else than the state.
kio::pool! { struct App; listen = { addr => handle } }

fn addr(_: &str) -> std::net::SocketAddr {
    ([127, 0, 0, 1], 80).into()
}

async fn handle(_: kio::net::TcpStream) {}

fn main() {}
