//! Files on their owner, from one worker and from two.

use std::fs;
use std::path::{Path, PathBuf};

use kio::fs::{Advice, Kind, OpenOptions};
use kio::{Error, Handle, Worker};
use kio_tests::scaled;

type Result<T = ()> = kio::Result<T>;

/// A directory of its own, gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let base = std::env::var_os("KIO_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = base.join(format!("kio-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a temporary directory");
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn nothing(_: Worker<Two>) -> Result {
    Ok(())
}

kio::pool! {
    struct Two;
    workers  = 2,
    entry    = nothing,
    pin      = off,
    calls    = 64 x 16 KiB,
    spawn    = 128 x 4 KiB,
    files    = 32,
    file_ops = 32,
    buffers  = 128 x 8 KiB,
    conns    = 4,
    allow    = [paths],
    routes   = { _ => 1 },
}

fn pool() -> Handle<Two> {
    Two::start_when_free().expect("starts")
}

/// Ends the pool and sees that nothing of it was held.
fn ends_empty(pool: Handle<Two>) {
    pool.stop();
    pool.join().expect("ends");
    Two::start_when_free().expect("nothing was held");
}

/// Runs the claim on the worker that owns all files, and on the one that owns none.
macro_rules! from_both {
    ($pool:expr, async |$worker:ident, $($arg:ident),*| $body:block) => {
        for worker in [1, 0] {
            $(let $arg = $arg.clone();)*
            let run = async move |$worker: Worker<Two>| -> Result { $body };
            $pool.on(worker, run).expect("the call runs").expect("the claim holds");
        }
    };
}

fn fresh() -> OpenOptions {
    OpenOptions::new().create().truncate()
}

#[test]
fn what_is_written_is_read_whoever_owns_the_file() {
    let (pool, dir) = (pool(), Dir::new("written"));
    let path = dir.path("a");
    from_both!(pool, async |worker, path| {
        let file = worker.open_with(&path, fresh()).await?;
        file.write_all_at("hello, ", 0).await?;
        let mut buf = worker.buf().await?;
        buf.put(b"world")?;
        file.write_all_at(buf.freeze(), 7).await?;
        file.write_copy_at(&[b'!'; 20_000], 12).await?;
        let read = file.read_at(worker.buf().await?, 0).await?;
        assert_eq!(&read[..14], b"hello, world!!");
        assert_eq!(read.len(), read.capacity());
        let mut part = worker.buf().await?;
        part.put(b"> ")?;
        let part = file.read_exact_at(part, 7, 5).await?;
        assert_eq!(&part[..], b"> world");
        let end = file.read_at(worker.buf().await?, 20_012).await?;
        assert!(end.is_empty(), "nothing at the end");
        let late = file.read_exact_at(worker.buf().await?, 20_000, 100).await;
        assert_eq!(late.err(), Some(Error::EndOfFile));
        assert_eq!(file.metadata().await?.len(), 20_012);
        file.close().await
    });
    ends_empty(pool);
}

#[test]
fn many_buffers_are_one_operation() {
    let (pool, dir) = (pool(), Dir::new("many"));
    let path = dir.path("a");
    from_both!(pool, async |worker, path| {
        let file = worker.open_with(&path, fresh()).await?;
        let mut bufs = Vec::new();
        for i in 0..5u8 {
            let mut buf = worker.buf().await?;
            buf.put(&vec![b'0' + i; 3000])?;
            bufs.push(buf.freeze());
        }
        let bufs: [kio::Buf; 5] = bufs.try_into().expect("five");
        file.write_gathered_at(bufs, 100).await?;
        assert_eq!(file.metadata().await?.len(), 15_100);
        let mut head = worker.buf().await?;
        head.put(b"head")?;
        let into = [head, worker.buf().await?, worker.buf().await?];
        let [a, b, c] = file.read_scattered_at(into, 100).await?;
        assert_eq!((&a[..4], a.len(), b.len()), (&b"head"[..], 8192, 6812));
        assert!(c.is_empty(), "the file has no more");
        let all = [&a[4..], &b[..]].concat();
        let wanted: Vec<u8> = (0..15_000).map(|at| b'0' + (at / 3000) as u8).collect();
        assert!(all == wanted, "in order");
        file.close().await
    });
    ends_empty(pool);
}

#[test]
fn appends_through_all_handles_never_meet() {
    let (pool, dir) = (pool(), Dir::new("append"));
    let path = dir.path("log");
    fs::write(&path, b"old\n").expect("writes");
    let each = scaled(200);
    std::thread::scope(|scope| {
        for (thread, worker) in [0, 1, 0, 1].into_iter().enumerate() {
            let (path, pool) = (&path, &pool);
            scope.spawn(move || {
                let path = path.clone();
                let run = async move |worker: Worker<Two>| -> Result {
                    let file = worker.open_with(&path, OpenOptions::new().write()).await?;
                    for i in 0..each {
                        let mut record = worker.buf().await?;
                        record.put(format!("{thread} {i:04}\n").as_bytes())?;
                        let record = record.freeze();
                        let at = file.append(record.clone()).await?;
                        let there = file.read_exact_at(worker.buf().await?, at, 7).await?;
                        assert_eq!(&there[..], &record[..], "where it was told");
                    }
                    file.close().await
                };
                pool.on(worker, run).expect("the call runs").expect("appends");
            });
        }
    });
    let text = fs::read_to_string(&path).expect("reads");
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "old");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 1 + 4 * each, "every record is there, once");
    ends_empty(pool);
}

#[test]
fn two_handles_on_one_path_are_one_owners_and_syncs_at_once_are_one() {
    let (pool, dir) = (pool(), Dir::new("group"));
    let path = dir.path("log");
    let tasks = 30; // each holds a handle until all have written
    let run = async move |worker: Worker<Two>| -> Result {
        let mut writers = Vec::new();
        let written = std::rc::Rc::new(std::cell::Cell::new(0));
        for _ in 0..tasks {
            let path = path.clone();
            let written = std::rc::Rc::clone(&written);
            let write = async move || -> Result {
                let file = worker.open_with(&path, OpenOptions::new().create()).await?;
                let mut record = worker.buf().await?;
                record.put(b"a record of some bytes\n")?;
                file.append(record).await?;
                // All have written before the first syncs.
                written.set(written.get() + 1);
                while written.get() < tasks {
                    kio_tests::yield_now().await;
                }
                file.sync_data().await
            };
            writers.push(worker.spawn(write).map_err(Error::from)?);
        }
        for writer in writers {
            writer.await??;
        }
        assert_eq!(fs::read(&path).expect("reads").len(), tasks * 23);
        Ok(())
    };
    // From the worker that owns none: all of it crosses.
    pool.on(0, run).expect("the call runs").expect("writes");
    let stats: Vec<_> = pool.stats().collect();
    assert_eq!(stats[1].synced, tasks as u64, "everybody was answered by the owner");
    assert!(stats[1].syncs < tasks as u64, "{} syncs for {tasks}", stats[1].syncs);
    ends_empty(pool);
}

#[test]
fn lengths_holes_and_advice() {
    let (pool, dir) = (pool(), Dir::new("length"));
    let path = dir.path("a");
    from_both!(pool, async |worker, path| {
        let file = worker.open_with(&path, fresh()).await?;
        file.set_len(100).await?;
        assert_eq!(file.append("x").await?, 100, "the end moved");
        file.set_len(10).await?;
        assert_eq!(file.append("y").await?, 10);
        file.allocate(0, 65_536).await?;
        let long = file.metadata().await?;
        assert!(long.len() == 65_536 && long.allocated() >= 65_536, "{long:?}");
        assert_eq!(file.append("z").await?, 65_536);
        file.write_copy_at(&[7; 8192], 0).await?;
        file.punch_hole(0, 4096).await?;
        let read = file.read_at(worker.buf().await?, 0).await?;
        assert!(read[..4096].iter().all(|byte| *byte == 0) && read[4096] == 7);
        file.advise(Advice::Sequential, 0, 0).await?;
        file.sync_all().await?;
        file.close().await
    });
    ends_empty(pool);
}

#[test]
fn names_are_made_moved_and_taken_away() {
    let (pool, dir) = (pool(), Dir::new("names"));
    let root = dir.0.clone();
    from_both!(pool, async |worker, root| {
        let at = |name: &str| root.join(name);
        worker.create_dir(at("d")).await?;
        assert_eq!(worker.create_dir(at("d")).await.err().and_then(|e| e.errno()), Some(17));
        let file = worker.open_with(at("d/a"), OpenOptions::new().create_new().mode(0o600)).await?;
        file.write_all_at("abc", 0).await?;
        drop(file);
        let again = worker.open_with(at("d/a"), OpenOptions::new().create_new()).await;
        assert_eq!(again.err().and_then(|e| e.errno()), Some(17), "EEXIST");
        worker.hard_link(at("d/a"), at("d/b")).await?;
        worker.symlink("a", at("d/s")).await?;
        let (a, b) = (worker.stat(at("d/./x/../a")).await?, worker.stat(at("d//b")).await?);
        assert_eq!(a.identity(), b.identity());
        assert_eq!((a.links(), a.len(), a.mode() & 0o777), (2, 3, 0o600));
        assert_eq!(worker.stat(at("d/s")).await?.identity(), a.identity());
        assert_eq!(&worker.read_link(at("d/s")).await?[..], b"a");
        let text = worker.read_link(at("d/a")).await;
        assert_eq!(text.err().and_then(|e| e.errno()), Some(22), "EINVAL: no link");
        assert_eq!(worker.stat_link(at("d/s")).await?.kind(), Kind::Symlink);
        assert_eq!(worker.stat(at("d")).await?.kind(), Kind::Directory);
        worker.rename(at("d/b"), at("d/c")).await?;
        let taken = worker.rename_new(at("d/a"), at("d/c")).await;
        assert_eq!(taken.err().and_then(|e| e.errno()), Some(17));
        let full = worker.remove_dir(at("d")).await;
        assert_eq!(full.err().and_then(|e| e.errno()), Some(39), "ENOTEMPTY");
        for name in ["d/a", "d/c", "d/s"] {
            worker.remove_file(at(name)).await?;
        }
        worker.remove_dir(at("d")).await?;
        assert_eq!(worker.stat(at("d")).await.err().and_then(|e| e.errno()), Some(2));
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn paths_that_cannot_be_are_errors_and_lose_nothing() {
    let (pool, dir) = (pool(), Dir::new("paths"));
    let root = dir.0.clone();
    from_both!(pool, async |worker, root| {
        let missing = worker.open(root.join("missing")).await;
        assert_eq!(missing.err().and_then(|e| e.errno()), Some(2), "ENOENT");
        let directory = worker.open_with(&root, OpenOptions::new().write()).await;
        assert_eq!(directory.err().and_then(|e| e.errno()), Some(21), "EISDIR");
        let open = worker.open(&root).await?;
        let read = open.read_at(worker.buf().await?, 0).await;
        assert_eq!(read.err().and_then(|e| e.errno()), Some(21), "EISDIR");
        for path in ["", "a\0b", &"x".repeat(4096)] {
            assert!(matches!(worker.open(path).await, Err(Error::BadPath(_))));
        }
        let long = worker.open(root.join("n".repeat(300))).await;
        assert_eq!(long.err().and_then(|e| e.errno()), Some(36), "ENAMETOOLONG");
        let file = worker.open_with(root.join("r"), fresh()).await?;
        drop(file);
        let file = worker.open(root.join("r")).await?;
        let written = file.write_at("x", 0).await;
        assert_eq!(written.err().and_then(|e| e.errno()), Some(9), "EBADF: opened to read");
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn a_file_that_is_dropped_or_forgotten_in_any_state_loses_no_handle() {
    let (pool, dir) = (pool(), Dir::new("dropped"));
    let path = dir.path("a");
    fs::write(&path, vec![1; 100_000]).expect("writes");
    from_both!(pool, async |worker, path| {
        // More than there are handles, given up after so many polls.
        for polls in 0..40 {
            for _ in 0..8 {
                drop(kio_tests::poll_then_drop(polls, worker.open(&path)).await);
            }
            let file = worker.open_with(&path, OpenOptions::new().write()).await?;
            let buf = worker.buf().await?;
            drop(kio_tests::poll_then_drop(polls, file.read_at(buf, 0)).await);
            let _ = kio_tests::poll_then_drop(polls, file.append("appended")).await;
            let _ = kio_tests::poll_then_drop(polls, file.sync_data()).await;
            let _ = kio_tests::poll_then_drop(polls, file.metadata()).await;
            let bufs = [worker.buf().await?, worker.buf().await?];
            drop(kio_tests::poll_then_drop(polls, file.read_scattered_at(bufs, 0)).await);
            let _ = kio_tests::poll_then_drop(polls, worker.stat(&path)).await;
            let _ = kio_tests::poll_then_drop(polls, file.close()).await;
        }
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn more_opens_than_handles_wait_in_line() {
    let (pool, dir) = (pool(), Dir::new("line"));
    let root = dir.0.clone();
    from_both!(pool, async |worker, root| {
        let mut tasks = Vec::new();
        for i in 0..100 {
            let path = root.join(format!("{i}"));
            let task = async move || -> Result {
                let file = worker.open_with(&path, fresh()).await?;
                file.write_all_at("x", 0).await?;
                kio_tests::yield_now().await;
                file.close().await
            };
            tasks.push(worker.spawn(task).map_err(Error::from)?);
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    });
    assert_eq!(fs::read_dir(&dir.0).expect("reads").count(), 100);
    ends_empty(pool);
}

#[test]
fn a_full_read_has_room_left_at_the_end_only() {
    let (pool, dir) = (pool(), Dir::new("full"));
    let path = dir.path("a");
    let bytes = kio_tests::pattern(3 * 8192 - 5);
    fs::write(&path, &bytes).expect("writes");
    from_both!(pool, async |worker, path, bytes| {
        for options in [OpenOptions::new(), OpenOptions::new().try_direct()] {
            let file = worker.open_with(&path, options).await?;
            let (mut read, mut more) = (Vec::new(), true);
            while more {
                let buf = file.read_full_at(worker.buf().await?, read.len() as u64).await?;
                more = buf.spare() == 0;
                read.extend_from_slice(&buf);
            }
            assert!(read == bytes);
            file.close().await?;
        }
        let file = worker.open(&path).await?;
        let mut behind = worker.buf().await?;
        behind.put(b"> ")?;
        let behind = file.read_full_at(behind, 0).await?;
        assert!(behind[..2] == *b"> " && behind[2..] == bytes[..8190]);
        let end = file.read_full_at(worker.buf().await?, bytes.len() as u64).await?;
        assert!(end.is_empty(), "nothing at the end");
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn a_file_system_with_no_way_past_the_cache_is_told_or_used_through_it() {
    let pool = pool();
    let path = PathBuf::from("/proc/self/status"); // no file of /proc takes direct I/O
    from_both!(pool, async |worker, path| {
        let direct = worker.open_with(&path, OpenOptions::new().direct()).await;
        assert_eq!(direct.err().and_then(|e| e.errno()), Some(22), "EINVAL");
        let file = worker.open_with(&path, OpenOptions::new().try_direct()).await?;
        assert_eq!(file.block(), 1);
        assert!(file.read_full_at(worker.buf().await?, 0).await?.starts_with(b"Name:"));
        let missing = worker.open_with("/proc/missing", OpenOptions::new().try_direct()).await;
        assert_eq!(missing.err().and_then(|e| e.errno()), Some(2), "ENOENT");
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn direct_reads_and_writes_are_aligned_or_a_typed_error() {
    let (pool, dir) = (pool(), Dir::new("direct"));
    let path = dir.path("a");
    fs::write(&path, vec![5; 10_000]).expect("writes");
    if !takes_direct(&path) {
        println!("skipped: this file system takes no direct I/O");
        return;
    }
    from_both!(pool, async |worker, path| {
        let file = worker.open_with(&path, OpenOptions::new().write().direct()).await?;
        let whole = file.read_at(worker.buf().await?, 0).await?;
        assert!(whole.len() == 8192 && whole.iter().all(|byte| *byte == 5));
        let tail = file.read_at(worker.buf().await?, 8192).await?;
        assert_eq!(tail.len(), 10_000 - 8192);
        let cut = file.read_exact_at(worker.buf().await?, 8192, 4096).await;
        assert_eq!(cut.err(), Some(Error::EndOfFile));
        assert!(file.block() >= 512 && file.block().is_power_of_two());
        let odd = file.read_at(worker.buf().await?, 100).await;
        assert!(matches!(odd, Err(Error::Misaligned { need: 512.. })), "{odd:?}");
        let mut behind = worker.buf().await?;
        behind.put(b"x")?;
        assert!(matches!(file.read_at(behind, 0).await, Err(Error::Misaligned { .. })));
        let mut block = worker.buf().await?;
        block.put(&[6; 4096])?;
        file.write_all_at(block, 4096).await?;
        assert!(matches!(file.write_at("short", 0).await, Err(Error::Misaligned { .. })));
        let read = file.read_at(worker.buf().await?, 4096).await?;
        assert!(read[..4096].iter().all(|byte| *byte == 6));
        let mut block = worker.buf().await?;
        block.put(&[5; 4096])?;
        file.write_all_at(block, 4096).await?;
        file.close().await
    });
    ends_empty(pool);
}

fn takes_direct(path: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).is_ok()
}

#[test]
fn a_stop_ends_what_never_ends_and_closes_what_is_open() {
    let (pool, dir) = (pool(), Dir::new("fifo"));
    let path = dir.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo runs");
    for worker in [0, 1] {
        let path = path.clone();
        let run = async move |worker: Worker<Two>| -> Result {
            let hang = async move || {
                // Nobody ever opens the other side.
                let _ = worker.open(&path).await;
            };
            worker.spawn(hang).map_err(Error::from)?;
            Ok(())
        };
        pool.on(worker, run).expect("the call runs").expect("spawns");
    }
    ends_empty(pool);
}

#[test]
fn a_file_is_replaced_as_a_whole_and_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let (pool, dir) = (pool(), Dir::new("atomic"));
    let path = dir.path("config");
    from_both!(pool, async |worker, path| {
        let _ = fs::remove_file(&path);
        worker.write_atomic(&path, b"one").await?;
        assert_eq!(fs::read(&path).expect("reads"), b"one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("sets");
        let long = vec![b'2'; 50_000];
        worker.write_atomic(&path, &long).await?;
        assert!(fs::read(&path).expect("reads") == long);
        assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o640);
        assert!(matches!(worker.write_atomic("..", b"").await, Err(Error::BadPath(_))));
        Ok(())
    });
    assert_eq!(fs::read_dir(&dir.0).expect("reads").count(), 1, "no temporary file is left");
    ends_empty(pool);
}

#[test]
fn a_directory_gives_every_name_once() {
    let (pool, dir) = (pool(), Dir::new("entries"));
    let root = dir.0.clone();
    let count = scaled(1000);
    for i in 0..count {
        fs::write(dir.path(&format!("{i:030}")), "").expect("writes");
    }
    fs::create_dir(dir.path("sub")).expect("makes");
    from_both!(pool, async |worker, root| {
        let mut entries = worker.read_dir(&root).await?;
        let mut names = Vec::new();
        while let Some(entry) = entries.next().await? {
            let wanted = if entry.name() == b"sub" { Kind::Directory } else { Kind::File };
            assert!(entry.kind().is_none_or(|kind| kind == wanted));
            names.push(String::from_utf8(entry.name().to_vec()).expect("text"));
        }
        names.sort_unstable();
        let mut wanted: Vec<_> = (0..count).map(|i| format!("{i:030}")).collect();
        wanted.push("sub".to_string());
        assert_eq!(names, wanted);
        assert!(entries.next().await?.is_none(), "and stays at its end");
        let file = worker.read_dir(root.join("0".repeat(30))).await;
        assert_eq!(file.err().and_then(|e| e.errno()), Some(20), "ENOTDIR");
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn a_range_of_a_file_goes_out_to_a_stream() {
    use std::io::Read;
    let (pool, dir) = (pool(), Dir::new("send"));
    let path = dir.path("a");
    let bytes = kio_tests::pattern(1_000_000);
    fs::write(&path, &bytes).expect("writes");
    for (from, to) in
        [(0, 1_000_000), (1, 999_999), (500_000, 500_001), (7, 7), (999_000, 2_000_000)]
    {
        for worker in [0, 1] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
            let addr = listener.local_addr().expect("is bound");
            let peer = std::thread::spawn(move || {
                let mut got = Vec::new();
                let (mut peer, _) = listener.accept().expect("accepts");
                peer.read_to_end(&mut got).expect("reads");
                got
            });
            let path = path.clone();
            let run = async move |worker: Worker<Two>| -> Result<u64> {
                let file = worker.open(&path).await?;
                let mut conn = worker.connect(addr).await?;
                let sent = file.send_to(&mut conn, from..to).await?;
                conn.close().await?;
                Ok(sent)
            };
            let sent = pool.on(worker, run).expect("the call runs").expect("sends");
            let got = peer.join().expect("ends");
            let wanted = &bytes[from as usize..(to as usize).min(bytes.len())];
            assert_eq!((sent as usize, got.len()), (wanted.len(), wanted.len()));
            assert!(got == wanted, "the bytes of {from}..{to}");
        }
    }
    ends_empty(pool);
}
