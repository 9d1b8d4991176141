//! Files, their root and their routes, asserted upon while compiling, and used where only a const
//! may stand: in the type of a task that the pool itself holds.
#![forbid(unsafe_code, unused)]
#![deny(missing_docs, warnings)]

use kio::{Core, Result, Worker};
use std::path::{Path, PathBuf};

/// A state with a directory.
pub struct Dirs(PathBuf);

impl kio::State for Dirs {
    type Args = PathBuf;

    fn init(_: Core, dir: &PathBuf) -> Result<Self> {
        Ok(Self(dir.clone()))
    }
}

impl Dirs {
    fn root(&self) -> &Path {
        &self.0
    }

    fn text(&self) -> String {
        self.0.display().to_string()
    }
}

const WAL: u8 = 0;
const FIRST: usize = 1;

kio::pool! {
    /// With everything.
    pub struct App;
    workers = 4,
    entry = serve,
    state = Dirs,
    tasks = { sized: 4 },
    files = 256,
    file_ops = 32,
    registered = require,
    allow = [paths],
    root = Dirs::root,
    routes = {
        "/var/lib/app/wal/*" => WAL,
        "/var/lib/app/wal/archive" => 1,
        "/var/lib/app/db/**" => hash,
        "logs/*.log" => 3,
        "logs/audit.log" => 0,
        "logs/**" => 2,
        "cache/**" => hash(FIRST..4),
        "one/*" => hash(2..=2),
        _ => hash(0..2),
    },
}

kio::pool! {
    struct Single;
    entry = alone,
    files = 1,
    routes = { "a/*" => 0, "b/*" => hash },
}

kio::pool! {
    struct Many;
    workers = ..=8,
    entry = alone,
    state = Dirs,
    files = 1,
    registered = off,
    root = Dirs::text,
    routes = { "a/*" => hash, "/**" => hash },
}

const fn of(path: &str) -> usize {
    App::route(path).unwrap()
}

const _: () = {
    assert!(of("/var/lib/app/wal/1") == 0);
    assert!(of("/var/lib/app/wal/archive") == 1);
    assert!(of("/var/lib/app/wal/1/2") < 2);
    assert!(of("/var/lib/app/db/a/b") < 4);
    assert!(of("/var/lib/app/db/a/b") == of("/var/lib/app/db/a/b"));
    assert!(of("logs/a.log") == 3);
    assert!(of("logs/audit.log") == 0);
    assert!(of("logs/a") == 2);
    assert!(of("logs/a/b.log") == 2);
    assert!(of("/logs/a.log") < 2);
    assert!(of("cache/a") >= 1);
    assert!(of("one/a") == 2);
    assert!(of("elsewhere") < 2);
    assert!(matches!(Single::route("a/b"), Some(0)));
    assert!(matches!(Single::route("b/b"), Some(0)));
    assert!(Single::route("/a/b").is_none());
    assert!(Single::route("a").is_none());
};

async fn sized() {
    let buf = [0u8; 64 + of("logs/a.log")];
    std::future::ready(()).await;
    assert_eq!(buf.len(), 67);
}

async fn serve(worker: Worker<App>) -> Result<()> {
    worker.spawn(sized)?;
    Ok(())
}

async fn alone(_: Core) -> Result<()> {
    Ok(())
}

fn main() {
    let _ = (App::run, Single::run, Many::run);
}
