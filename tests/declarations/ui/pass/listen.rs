//! `listen` in all its forms: literals and functions, options, a handler on two addresses, handlers
//! with and without a worker, counted in `tasks` or not.
#![deny(warnings)]

use kio::net::TcpStream;
use kio::{Core, Result, Worker};
use std::any::TypeId;
use std::net::SocketAddr;

struct App {
    admin: SocketAddr,
}

impl kio::State for App {
    type Args = SocketAddr;

    fn init(_: Core, admin: &SocketAddr) -> Result<Self> {
        Ok(Self { admin: *admin })
    }
}

impl App {
    fn admin(&self) -> SocketAddr {
        self.admin
    }
}

kio::pool! {
    struct Site;
    workers = 2,
    listen = {
        "127.0.0.1:8080" => http,
        "[::1]:8080" => http { accept = shared },
        App::admin => admin { accept = shared, real_fds },
    },
    tasks = { http: 100 },
    conns = 128,
    state = App,
}

async fn http(worker: Worker<Site>, mut conn: TcpStream) -> Result<()> {
    let _ = (worker.state().admin, Site::FOOTPRINT);
    conn.send("hello").await
}

async fn admin(conn: TcpStream) {
    drop(conn);
}

/// The type of the future that a task makes.
fn id<Args, F: kio::TaskFn<Args>>(_: F) -> Option<TypeId> {
    Some(TypeId::of::<F::Future>())
}

fn main() {
    // The arenas are those of the users' own futures, and in order; the last two take any.
    let tasks = <Site as kio::__private::Pool>::CONFIG.tasks;
    let names: Vec<_> = tasks.iter().map(|task| (task.name, task.count)).collect();
    let loops = [("listen: http", 2), ("listen: admin", 1)];
    assert_eq!(
        names,
        [
            &[("http", 100), ("admin", 128)],
            &loops[..],
            &[("spawn", 64), ("calls", 64)]
        ]
        .concat()
    );
    assert_eq!((tasks[0].id, tasks[1].id), (id(http), id(admin)));

    let start: fn(SocketAddr) -> Result<kio::Handle<Site>> = Site::start;
    let _ = start;
}
