//! TLS of a listener in a kio that was built without.
struct App;

impl kio::State for App {
    type Args = ();

    fn init(_: kio::Core, (): &()) -> kio::Result<Self> {
        Ok(Self)
    }
}

kio::pool! {
    struct Site;
    state = App,
    listen = { "127.0.0.1:80" => handle { tls = App::acceptor } },
}

impl App {
    fn acceptor(&self) -> &Self {
        self
    }
}

async fn handle(_: kio::net::TcpStream) {}

fn main() {}
