//! Copies a tree past the page cache: `cargo run --release --example files FROM TO`, where TO is not
//! there yet. Worker 0 walks the tree and copies 32 files at once; a file is open on the worker that
//! `routes` picks by its path, and its ring reads or writes it. Try a large tree; a full disk.

use kio::fs::{Kind, OpenOptions};
use kio::{Core, Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, path::PathBuf};

const AT_ONCE: usize = 32;
static COPIED: AtomicUsize = AtomicUsize::new(0); // bytes

async fn walk(core: Core) -> Result<()> {
    if core.index() > 0 {
        return Ok(()); // it serves the files that are its own
    }
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let mut left = match (args.next(), args.next()) {
        (Some(from), Some(to)) if !is_within(&to, &from) => vec![(from, to)],
        _ => return Err(Error::Other("name two trees: FROM, and TO, which is not in FROM")),
    };
    while let Some((from, to)) = left.pop() {
        let listed = async {
            let mut entries = core.read_dir(&from).await?;
            core.create_dir(&to).await?;
            while let Some(entry) = entries.next().await? {
                let name = OsStr::from_bytes(entry.name());
                let (from, to) = (from.join(name), to.join(name));
                match core.stat_link(&from).await?.kind() {
                    Kind::Directory => left.push((from, to)),
                    Kind::Symlink => core.symlink(core.read_link(&from).await?, to).await?,
                    Kind::File => drop(core.reserve(copy).await?.spawn(|| copy(core, from, to))),
                    _ => eprintln!("{}: no file, directory or link: left out", from.display()),
                }
            }
            Ok(())
        };
        listed.await.inspect_err(|error: &Error| eprintln!("\n{}: {error}", from.display()))?;
    }
    let mut slots = Vec::new();
    while slots.len() < AT_ONCE {
        slots.push(core.reserve(copy).await?); // once all slots are here, no copy runs any more
    }
    eprintln!("are copied");
    core.stop();
    if core.stats().failures == 0 { Ok(()) } else { Err(Error::Other("not everything is")) }
}

/// Whether a path that is not there yet would be in the tree, whatever links lead there.
fn is_within(path: &Path, tree: &Path) -> bool {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match (parent.unwrap_or(Path::new(".")).canonicalize(), tree.canonicalize()) {
        (Ok(parent), Ok(tree)) => parent.starts_with(tree),
        _ => path.starts_with(tree), // one is not there: the walk says which
    }
}

async fn copy(core: Core, from: PathBuf, to: PathBuf) -> Result<()> {
    let copied = async {
        let source = core.open_with(&from, OpenOptions::new().try_direct()).await?;
        let mode = source.metadata().await?.mode() & 0o777 | 0o200;
        let fresh = OpenOptions::new().create_new().mode(mode).try_direct();
        let target = core.open_with(&to, fresh).await?;
        let (mut at, mut more) = (0, true);
        while more {
            // Whole blocks only: `set_len` cuts the last one.
            let mut bytes = source.read_full_at(core.buf().await?, at).await?;
            let (offset, len) = (at, bytes.len());
            (at, more) = (at + len as u64, bytes.spare() == 0);
            bytes.put(&[0; 4096][..len.next_multiple_of(target.block()) - len])?;
            target.write_all_at(bytes, offset).await?;
            eprint!("\r{} KiB ", (COPIED.fetch_add(len, Relaxed) + len) >> 10);
        }
        target.set_len(at).await
    };
    copied.await.inspect_err(|error| eprintln!("\n{}: {error}", from.display()))
}

kio::pool! {
    struct Files;
    workers = ..=4, entry = walk, tasks = { copy: AT_ONCE }, spawn = 0,
    files = { 2 * AT_ONCE + 1 }, routes = { _ => hash }, allow = [paths],
    buffers = 64 x 256 KiB, depth = 1, conns = 1, // no socket wants any
}

fn main() -> Result<()> {
    Files::run()
}
