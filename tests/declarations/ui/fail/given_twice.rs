//! A key, a CPU, a signal, a task and an address given twice.
kio::pool! {
    struct App;
    conns = 64,
    listen = { "127.0.0.1:80" => handle, "127.0.0.1:80" => handle { real_fds, real_fds } },
    tasks = { handle: 64, handle: 8 },
    pin = [0, 0],
    signals = [HUP, HUP],
    conns = 128,
}

async fn handle(_: kio::net::TcpStream) {}

fn main() {}
