//! An entry and a listener.
kio::pool! {
    struct App;
    entry = serve,
    listen = { "127.0.0.1:80" => handle },
}

async fn handle(_: kio::net::TcpStream) {}

async fn serve(_: kio::Core) -> kio::Result<()> {
    Ok(())
}

fn main() {}
