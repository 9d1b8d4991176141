//! The kio server: a declared pool with one worker, as its users write it.

use ::kio::net::TcpStream;
use ::kio::{Core, Result as KioResult};

use super::{Options, ready, served};
use crate::Result;
use crate::workload::{Scanner, Workload, replies};

/// What is known at run time only.
pub struct Args {
    workload: Workload,
    port: u16,
}

pub struct Setup {
    workload: Workload,
    port: u16,
}

impl ::kio::State for Setup {
    type Args = Args;

    fn init(_: Core, args: &Args) -> KioResult<Self> {
        Ok(Self { workload: args.workload, port: args.port })
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
        conn.send(data).await?;
        served(1);
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

macro_rules! declare {
    ($module:ident, $idle:expr) => {
        mod $module {
            use super::*;
            use ::kio::__private as k;
            pub struct Server;

            async fn serve(worker: ::kio::Worker<Server>) -> KioResult<()> {
                let state = worker.state();
                let mut listener = worker.listen(([127, 0, 0, 1], state.port)).await?;
                let port = listener.local_addr()?.port();
                ready(port).map_err(|_| ::kio::Error::Other("cannot print"))?;
                macro_rules! accept {
                    ($handler:ident) => {
                        loop {
                            let place = worker.reserve($handler).await?;
                            let conn = listener.accept().await?;
                            drop(place.spawn(move || $handler(conn)));
                        }
                    };
                }
                match state.workload {
                    Workload::Http => accept!(http),
                    Workload::Echo => accept!(echo),
                    Workload::Close => accept!(close),
                }
            }

            const CONFIG: k::Config = k::Config {
                name: "kio",
                tasks: &[
                    k::layout(&http, "http", 11_000),
                    k::layout(&echo, "echo", 1024),
                    k::layout(&close, "close", 1024),
                    k::entry_layout::<Server, _, _, _>(&serve, "serve"),
                    k::TaskDecl::any("calls", 4, 256),
                ],
                conns: 11_000,
                buffers: 1024,
                idle: $idle,
                ..k::Config::DEFAULT
            };
            const W: usize = CONFIG.max_workers() as usize;
            static SHARED: k::Shared = k::Shared::new();
            type Tables = k::Tables<
                { CONFIG.conns as usize },
                { CONFIG.ops() as usize },
                { (CONFIG.conns * CONFIG.outbox) as usize },
                { CONFIG.buffers as usize },
                { CONFIG.task_slots() as usize },
                { CONFIG.tasks.len() },
            >;
            static TABLES: [k::Owned<Tables>; W] = [const { Tables::new() }; W];
            static STATES: [k::StateCell<Setup>; W] = [const { k::StateCell::new() }; W];
            static BODIES: k::Bytes<{ CONFIG.body_bytes() * W }> = k::Bytes::new();
            static BUFFERS: k::Bytes<{ CONFIG.buffer_bytes() * W }> = k::Bytes::new();
            static RINGS: k::Bytes<{ CONFIG.ring_bytes() * W }> = k::Bytes::new();
            unsafe impl k::Pool for Server {
                type State = Setup;
                const CONFIG: k::Config = CONFIG;
                fn shared() -> &'static k::Shared {
                    &SHARED
                }
                fn memory(worker: usize) -> k::Memory {
                    Tables::memory(&TABLES, &BODIES, &BUFFERS, &RINGS, worker)
                }
                fn state(worker: usize) -> &'static k::StateCell<Setup> {
                    &STATES[worker]
                }
                fn enter(worker: ::kio::Worker<Self>) -> KioResult<()> {
                    k::enter(worker, serve)
                }
            }
            pub fn run(args: Args) -> KioResult<()> {
                k::run::<Server>(args)
            }
        }
    };
}

declare!(park, k::Idle::Park);
declare!(spin, k::Idle::Spin(100_000));

/// Serves until SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    let args = Args { workload: options.workload, port: options.port };
    match options.spin.as_micros() {
        0 => park::run(args)?,
        100 => spin::run(args)?,
        _ => return Err("kio is declared with a spin of 0 or 100 us".into()),
    }
    Ok(())
}
