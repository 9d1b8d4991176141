//! `append`: 64 writers to one log, each waiting until its record is on the device. In kio their syncs
//! meet in one (group commit); by hand each record has a sync of its own.

use std::cell::{Cell, OnceCell};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ::kio::{Core, Error, Result as KioResult, State, Worker};

use crate::Result;
use crate::args::Args;
use crate::child::LOAD_CPU;
use crate::driven::{self, Dir, Driven, Orders, Pace, Rounds};
use crate::sys;

/// Writers at once.
const WRITERS: usize = 64;
/// One record.
static RECORD: [u8; 128] = *b"a record of 128 bytes, as a log has them, which ends in a newline .............................................................\n";
/// Records that tell how many a slice is.
const FIRST: u64 = 128;
const ENTRIES: [&str; 3] = ["kio", "by-hand", "threads"];

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let names = args.get("--entries", "by-hand,kio,threads,by-hand".to_string())?;
    let names: Vec<&str> = names.split(',').collect();
    if let Some(unknown) = names.iter().find(|name| !ENTRIES.contains(name)) {
        return Err(format!("unknown entry `{unknown}`: {}", ENTRIES.join(", ")).into());
    }
    let pace = Pace::read(&mut args)?;
    let dir = Dir::new(&mut args)?;
    args.end()?;
    sys::pin(LOAD_CPU)?;
    let mut all = Rounds::all(&names);
    driven::interleave(&mut all, pace, FIRST, |i| {
        let path = dir.file(&format!("log-{i}"));
        let path = path.to_str().ok_or("a path of text")?;
        Driven::start(&[], &["log", names[i], "--file", path], &[0])
    })?;
    println!(
        "{WRITERS} writers append records of {} bytes to one file and wait for the device, {} rounds of \
         about {} ms, {} starts\n",
        RECORD.len(),
        pace.rounds,
        pace.slice.as_millis(),
        pace.starts
    );
    print!("{}", driven::table(&all, &["by-hand", "threads"], pace.starts, "record"));
    Ok(())
}

/// The child: appends as it is told.
pub fn child(mut args: Args) -> Result<()> {
    let name = args.word("the entry's name")?;
    let path: PathBuf = args.find::<String>("--file")?.ok_or("missing: --file")?.into();
    driven::pin(&mut args)?;
    args.end()?;
    let file = || OpenOptions::new().create(true).append(true).open(&path);
    file()?;
    let before = path.metadata()?.len();
    let written = match name.as_str() {
        "kio" => {
            Log::run(path.clone())?;
            None
        }
        "by-hand" => Some(by_hand(&file()?)?),
        "threads" => Some(threads(&file()?)?),
        _ => return Err(format!("unknown entry `{name}`").into()),
    };
    let len = path.metadata()?.len() - before;
    let whole = len.is_multiple_of(RECORD.len() as u64);
    if !whole || written.is_some_and(|records| len != records * RECORD.len() as u64) {
        return Err(format!("{len} bytes in the log: no whole records, or others").into());
    }
    Ok(())
}

/// One writer after another: a write and a sync each.
fn by_hand(mut file: &File) -> Result<u64> {
    let mut written = 0;
    let mut orders = Orders::ready()?;
    while let Some(count) = orders.next()? {
        for _ in 0..count {
            file.write_all(&RECORD)?;
            file.sync_data()?;
        }
        written += count;
        orders.done()?;
    }
    Ok(written)
}

/// A thread a writer: a write and a sync each, which meet in the file system if they meet at all.
fn threads(file: &File) -> Result<u64> {
    let mut written = 0;
    let mut orders = Orders::ready()?;
    while let Some(count) = orders.next()? {
        let left = AtomicU64::new(count);
        let write = || {
            let mut file = file;
            while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                file.write_all(&RECORD)?;
                file.sync_data()?;
            }
            Ok::<_, std::io::Error>(())
        };
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
            writers.into_iter().try_for_each(|writer| {
                writer.join().map_err(|_| std::io::Error::other("a writer panicked"))?
            })
        })?;
        written += count;
        orders.done()?;
    }
    Ok(written)
}

/// What the writers of kio share.
struct Shared {
    path: PathBuf,
    file: OnceCell<::kio::fs::File>,
    left: Cell<u64>,
}

impl State for Shared {
    type Args = PathBuf;

    fn init(_: Core, path: &PathBuf) -> KioResult<Self> {
        Ok(Self { path: path.clone(), file: OnceCell::new(), left: Cell::new(0) })
    }
}

async fn write(worker: Worker<Log>) -> KioResult<()> {
    let state = worker.state();
    let file = state.file.get().ok_or(Error::Other("no file"))?;
    while let Some(left) = state.left.get().checked_sub(1) {
        state.left.set(left);
        file.append(&RECORD).await?;
        file.sync_data().await?;
    }
    Ok(())
}

async fn serve(worker: Worker<Log>) -> KioResult<()> {
    let state = worker.state();
    let options = ::kio::fs::OpenOptions::new().write();
    let file = worker.open_with(&state.path, options).await?;
    let _ = state.file.set(file);
    let told = |_| Error::Other("the parent is gone");
    let mut orders = Orders::ready().map_err(told)?;
    while let Some(count) = orders.next().map_err(told)? {
        state.left.set(count);
        let mut writers = heapless::Vec::<_, WRITERS>::new();
        for _ in 0..WRITERS {
            let _ = writers.push(worker.spawn(move || write(worker))?);
        }
        for writer in writers {
            writer.await??;
        }
        orders.done().map_err(told)?;
    }
    worker.stop();
    Ok(())
}

::kio::pool! {
    struct Log;
    workers = 1,
    entry = serve,
    state = Shared,
    tasks = { write: 64 },
    conns = 1,
    files = 4,
    file_ops = 128,
    buffers = 16 x 4 KiB,
}
