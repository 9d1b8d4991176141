//! The kio server: a declared pool with one worker, as its users write it.

use std::time::Duration;

use ::kio::net::TcpStream;
use ::kio::{Core, Result as KioResult, Worker};

use super::{Options, ready, served};
use crate::Result;
use crate::workload::{Scanner, Workload, replies};

/// What is known at run time only.
#[derive(Clone, Copy)]
pub struct Setup {
    workload: Workload,
    port: u16,
}

impl ::kio::State for Setup {
    type Args = Self;

    fn init(_: Core, setup: &Self) -> KioResult<Self> {
        Ok(*setup)
    }
}

async fn http(mut conn: TcpStream) -> KioResult<()> {
    let mut scanner = Scanner::default();
    while let Some(data) = conn.recv_idle().await? {
        let mut owed = scanner.count(&data);
        drop(data);
        while owed > 0 {
            let bytes = replies(owed);
            conn.send(bytes).await?;
            let sent = (bytes.len() / crate::workload::REPLY.len()) as u32;
            served(sent);
            owed -= sent;
        }
    }
    Ok(())
}

async fn echo(mut conn: TcpStream) -> KioResult<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.push(data).await?;
        let mut count = 1;
        while let Some(more) = conn.try_recv() {
            conn.push(more).await?;
            count += 1;
        }
        conn.flush().await?;
        served(count);
    }
    Ok(())
}

async fn close(mut conn: TcpStream) -> KioResult<()> {
    let mut scanner = Scanner::default();
    while let Some(data) = conn.recv_idle().await? {
        if scanner.count(&data) > 0 {
            conn.send(crate::workload::REPLY).await?;
            served(1);
            break;
        }
    }
    Ok(())
}

/// Set where the server runs under valgrind.
pub const YIELD: &str = "KIO_BENCH_YIELD";

/// Lets the thread run that waits for signals: valgrind runs no other while one is in
/// `io_uring_enter`, which it does not know to block.
pub async fn yields(core: Core) {
    loop {
        core.sleep(Duration::from_millis(50)).await;
        std::thread::yield_now();
    }
}

/// Two declarations that differ in how they wait, since that is declared too.
macro_rules! declare {
    ($module:ident, $($idle:tt)+) => {
        mod $module {
            use super::*;

            async fn serve(worker: Worker<Server>) -> KioResult<()> {
                let state = worker.state();
                let mut listener = worker.listen(([127, 0, 0, 1], state.port)).await?;
                let port = listener.local_addr()?.port();
                ready(port).map_err(|_| ::kio::Error::Other("cannot print the port"))?;
                if std::env::var_os(YIELD).is_some() {
                    drop(worker.spawn(move || yields(worker.core()))?);
                }
                match state.workload {
                    Workload::Http => loop {
                        let place = worker.reserve(http).await?;
                        let conn = listener.accept().await?;
                        place.spawn(move || http(conn));
                    },
                    Workload::Echo => loop {
                        let place = worker.reserve(echo).await?;
                        let conn = listener.accept().await?;
                        place.spawn(move || echo(conn));
                    },
                    Workload::Close => loop {
                        let place = worker.reserve(close).await?;
                        let conn = listener.accept().await?;
                        place.spawn(move || close(conn));
                    },
                }
            }

            ::kio::pool! {
                // So many windows exceed the buffers, which the declaration warns of: the connections
                // that send much are 50, and the 10,000 others are idle.
                #[allow(deprecated)]
                pub struct Server;
                workers = 1,
                entry = serve,
                state = Setup,
                tasks = { http: 11_000, echo: 1024, close: 1024 },
                conns = 11_000,
                buffers = 1024 x 16 KiB,
                // As many as limit gathers in one send: 16 requests of 16 KiB at once.
                window = 16,
                idle = $($idle)+,
            }
        }
    };
}

declare!(park, park);
declare!(spin, spin(100 us));

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    let args = Setup { workload: options.workload, port: options.port };
    match options.spin.as_micros() {
        0 => park::Server::run(args)?,
        100 => spin::Server::run(args)?,
        _ => return Err("kio is declared with a spin of 0 or 100 us".into()),
    }
    Ok(())
}
