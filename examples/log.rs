//! Logs that outlive a kill: `cargo run --release --example log [ADDR [DIR]]`, then `nc 127.0.0.1
//! 7003`. Your first line names a log, every further one is a record, and is answered by how many of
//! yours are on the device. An empty line replays the log: all that was answered, also after `kill -9`
//! and a restart. All who write to one log meet on the worker that `routes` names, and share its syncs.

mod dir;
mod record;

use std::fmt::Write;

use kio::fs::{File, OpenOptions};
use kio::net::TcpStream;
use kio::{Core, Error, Result};

async fn serve(mut conn: TcpStream) -> Result<()> {
    let core = conn.core();
    let (mut said, mut log, mut kept) = (core.buf().await?, None, 0);
    while conn.recv_idle_into(&mut said).await? > 0 {
        let Some(end) = said.iter().rposition(|byte| *byte == b'\n') else { continue };
        let before = kept;
        for line in said[..end].split(|byte| *byte == b'\n') {
            match &log {
                None => log = Some(open(core, line).await?),
                Some(log) if line.is_empty() => record::replay(log, &mut conn).await?,
                Some(log) => {
                    let mut bytes = core.buf().await?;
                    record::put(&mut bytes, line)?;
                    log.append(bytes).await?;
                    kept += 1;
                }
            }
        }
        said.consume(end + 1);
        said.compact();
        if let Some(log) = log.as_ref().filter(|_| kept > before) {
            log.sync_data().await?; // one for all that came at once, by any connection
            let mut answer = core.buf().await?;
            writeln!(answer, "{kept}")?;
            conn.send(answer).await?;
        }
    }
    Ok(())
}

async fn open(core: Core, name: &[u8]) -> Result<File> {
    if name.is_empty() || !name.iter().all(u8::is_ascii_alphanumeric) {
        return Err(Error::Other("a log's name is letters and digits"));
    }
    let mut path = core.buf().await?;
    path.put(name)?;
    path.put(b".log")?;
    let log = core.open_with(path, OpenOptions::new().create()).await?;
    let directory = core.open_local(".", OpenOptions::new().directory()).await?;
    directory.sync_all().await?; // where the log is new: its name is on the device, too
    Ok(log)
}

kio::pool! {
    struct Log;
    workers = ..=8,
    state   = dir::Dir,
    root    = dir::Dir::path,
    routes  = { "*.log" => hash },
    listen  = { dir::Dir::addr => serve },
    conns   = 256,
    files   = 300, // a log for each, and directories for a moment
    buffers = 1024 x 8 KiB,
    drain   = 0 s, // who was not answered says it again
}

fn main() -> Result<()> {
    let args = dir::from_args("127.0.0.1:7003")?;
    println!("log on {0}: try `nc {1} {2}`", args.0, args.0.ip(), args.0.port());
    Log::run(args)
}
