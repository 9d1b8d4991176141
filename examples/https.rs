//! `hello` over TLS: `cargo run --release --example https [ADDR]`, then
//! `curl --cacert kio-example.pem https://localhost:8443/`, whose answer tells the cipher, and whether
//! the kernel does it. The certificate is made at start, and anew on SIGHUP, for new connections;
//! those that are open go on. Ctrl-C lets them end in order.

mod http;
mod secure;

use std::{fmt::Write, net::SocketAddr, time::Duration};

use kio::tls::{TlsAcceptor, TlsStream};
use kio::{Core, Error, Result, Signal};

const REQUEST_MAX: usize = 16 << 10; // one buffer

struct Site {
    addr: SocketAddr,
    acceptor: TlsAcceptor,
}

impl kio::State for Site {
    type Args = (SocketAddr, TlsAcceptor);

    fn init(core: Core, (addr, acceptor): &Self::Args) -> Result<Self> {
        if core.index() == 0 {
            let acceptor = acceptor.clone(); // what it reloads holds on every worker
            core.spawn(move || reload(core, acceptor)).map_err(Error::from)?;
        }
        Ok(Self { addr: *addr, acceptor: acceptor.clone() })
    }
}

impl Site {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

async fn reload(core: Core, acceptor: TlsAcceptor) -> Result<()> {
    let mut hup = core.signal(Signal::HUP)?;
    while hup.recv().await.is_ok() {
        match secure::config() {
            Ok(config) => {
                acceptor.reload(config);
                println!("new connections get the new certificate");
            }
            Err(error) => eprintln!("not reloaded: {error}"),
        }
    }
    Ok(())
}

async fn hello(mut conn: TlsStream) -> Result<()> {
    conn.set_recv_timeout(Some(Duration::from_secs(60)));
    'serve: while let Some(data) = conn.recv_idle().await? {
        let mut data = data.try_mut().expect("nobody shares what just came");
        while !data.is_empty() {
            if let Some((len, request)) = http::parse(&data, REQUEST_MAX) {
                answer(&mut conn, &request).await?;
                if !request.keep {
                    break 'serve;
                }
                data.consume(len);
            } else {
                conn.flush().await?; // a part of a request: answer those before it, then wait
                data.compact();
                if conn.recv_into(&mut data).await? == 0 {
                    return Ok(());
                }
            }
        }
        conn.flush().await?;
    }
    conn.finish(Duration::from_secs(2)).await
}

async fn answer(conn: &mut TlsStream, request: &http::Request<'_>) -> Result<()> {
    if request.path.is_none() {
        return conn.push(http::BAD).await;
    }
    let mut body = conn.core().buf().await?;
    let (info, path) = (conn.info(), conn.data_path());
    writeln!(body, "Hello from kio, by {:?}, {:?}, {path}.", info.version(), info.suite())?;
    let mut head = conn.core().buf().await?;
    http::put_head(&mut head, body.len() as u64, None)?;
    conn.push(head).await?;
    if request.head { Ok(()) } else { conn.push(body).await }
}

kio::pool! {
    struct Https;
    workers = ..=8,
    state   = Site,
    listen  = { Site::addr => hello { tls = Site::acceptor } },
    signals = [HUP],
    conns   = 1024,
    buffers = 1024 x REQUEST_MAX,
}

fn main() -> Result<()> {
    let addr = std::env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:8443").parse();
    let addr: SocketAddr = addr.map_err(|_| {
        Error::Other("the argument is an address as in 127.0.0.1:8443 or [::1]:8443")
    })?;
    let acceptor = secure::acceptor()?;
    println!("open https://localhost:{}/", addr.port());
    Https::run((addr, acceptor))
}
