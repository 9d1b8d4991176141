//! kio's relay, as its users write a proxy.

use ::kio::net::{RelayOptions, TcpStream, relay_with};
use ::kio::{Core, Result as KioResult, State, Worker};

use crate::Result;
use crate::server::kio::{YIELD, yields};
use crate::server::ready;

struct Upstream(u16);

impl State for Upstream {
    type Args = u16;

    fn init(_: Core, port: &u16) -> KioResult<Self> {
        Ok(Self(*port))
    }
}

async fn proxy(core: Core, upstream: u16, mut client: TcpStream) -> KioResult<()> {
    let mut server = core.connect(([127, 0, 0, 1], upstream)).await?;
    relay_with(&mut client, &mut server, RelayOptions::new().window(32)).await?;
    Ok(())
}

async fn serve(worker: Worker<Proxy>) -> KioResult<()> {
    let upstream = worker.state().0;
    let mut listener = worker.listen(([127, 0, 0, 1], 0)).await?;
    let port = listener.local_addr()?.port();
    ready(port).map_err(|_| ::kio::Error::Other("cannot print the port"))?;
    if std::env::var_os(YIELD).is_some() {
        drop(worker.spawn(move || yields(worker.core()))?);
    }
    loop {
        let place = worker.reserve(proxy).await?;
        let client = listener.accept().await?;
        place.spawn(move || proxy(worker.core(), upstream, client));
    }
}

::kio::pool! {
    struct Proxy;
    workers = 1,
    entry = serve,
    state = Upstream,
    tasks = { proxy: 256 },
    conns = 512,
    buffers = 512 x 16 KiB,
    outbox = 64,
    drain = 100 ms,
}

/// Relays until SIGTERM.
pub fn run(upstream: u16) -> Result<()> {
    Proxy::run(upstream)?;
    Ok(())
}
