//! Files where things go wrong: devices that are full or fail, limits, files that change meanwhile,
//! processes that are killed, workers that are busy or stop, futures that are given up or forgotten.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;

use kio::fs::{Advice, File, OpenOptions};
use kio::{Core, Error, Handle, StartError, Worker};
use kio_tests::{again, is_child, poll_then_drop, scaled, yield_now};

type Result<T = ()> = kio::Result<T>;

// ---- what the tests share ----

/// A directory of its own, gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let base = std::env::var_os("KIO_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = base.join(format!("kio-faults-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a temporary directory");
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo runs");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A small file system in memory.
struct Tmpfs(Dir);

impl Tmpfs {
    /// None where it may not be mounted.
    fn new(name: &str, options: &str) -> Option<Self> {
        let dir = Dir::new(name);
        let args = ["-t", "tmpfs", "-o", options, "kio"];
        let mounted = Command::new("mount").args(args).arg(&dir.0).output();
        if mounted.is_ok_and(|ran| ran.status.success()) {
            return Some(Self(dir));
        }
        println!("skipped: it takes root to mount a tmpfs");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0.0).status();
    }
}

async fn nothing(_: Core) -> Result {
    Ok(())
}

kio::pool! {
    struct Two;
    workers  = 2,
    entry    = nothing,
    pin      = off,
    calls    = 64 x 16 KiB,
    spawn    = 64 x 8 KiB,
    files    = 16,
    file_ops = 8,
    buffers  = 32 x 8 KiB,
    conns    = 40,
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

fn errno<T>(result: Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.errno())
}

/// Runs `body` in a process of its own; false says that it takes rights which are not there.
fn alone(test: &str, body: impl FnOnce() -> bool) {
    if is_child() {
        if !body() {
            println!("skipped: it takes root");
        }
        return;
    }
    let ended = again(test).wait_with_output().expect("the child ends");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}");
    for skipped in said.lines().filter(|line| line.contains("skipped: ")) {
        println!("{skipped}");
    }
}

fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the call reads one `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

fn become_nobody() -> bool {
    const NOBODY: u32 = 65_534;
    // SAFETY: plain system calls; this process has no other thread that relies on its rights.
    unsafe {
        libc::setgroups(0, core::ptr::null()) == 0
            && libc::setresgid(NOBODY, NOBODY, NOBODY) == 0
            && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
    }
}

// ---- devices that are full, or fail ----

#[test]
fn a_full_device_is_told_and_what_was_acknowledged_stays() {
    let Some(disk) = Tmpfs::new("full", "size=256k") else { return };
    let pool = pool();
    let root = disk.0.0.clone();
    from_both!(pool, async |worker, root| {
        let path = root.join("log");
        let file = worker.open_with(&path, fresh()).await?;
        let mut records = 0;
        let full = loop {
            let mut record = worker.buf().await?;
            record.put(&[b'a' + records as u8 % 26; 5000])?;
            match file.append(record).await {
                Ok(at) => assert_eq!(at, records * 5000),
                Err(error) => break error,
            }
            records += 1;
        };
        assert_eq!(full.errno(), Some(28), "ENOSPC: {full}");
        assert!(records > 20, "{records}");
        let read = fs::read(&path).expect("reads");
        for (i, record) in read.chunks(5000).take(records as usize).enumerate() {
            assert!(record.iter().all(|byte| *byte == b'a' + i as u8 % 26), "record {i}");
        }
        assert_eq!(errno(file.write_copy_at(&[1; 100_000], 1 << 20).await), Some(28));
        assert_eq!(errno(file.allocate(0, 1 << 20).await), Some(28));
        // Room again: the next goes behind what was acknowledged, or behind what was cut off.
        file.set_len(5000).await?;
        assert_eq!(file.append("more").await?, 5000);
        file.close().await?;
        worker.remove_file(&path).await
    });
    ends_empty(pool);
}

#[test]
fn a_full_device_keeps_the_old_contents_of_what_is_replaced() {
    let Some(disk) = Tmpfs::new("replace", "size=128k") else { return };
    let pool = pool();
    let root = disk.0.0.clone();
    from_both!(pool, async |worker, root| {
        let path = root.join("config");
        worker.write_atomic(&path, b"old").await?;
        assert_eq!(errno(worker.write_atomic(&path, &[b'n'; 500_000]).await), Some(28));
        assert_eq!(fs::read(&path).expect("reads"), b"old");
        assert_eq!(fs::read_dir(&root).expect("reads").count(), 1, "no temporary file is left");
        worker.write_atomic(&path, b"new").await?;
        assert_eq!(fs::read(&path).expect("reads"), b"new");
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn devices_that_refuse_are_errors() {
    let pool = pool();
    let full = PathBuf::from("/dev/full");
    from_both!(pool, async |worker, full| {
        let file = worker.open_with(&full, OpenOptions::new().write()).await?;
        assert_eq!(errno(file.write_all_at("x", 0).await), Some(28), "ENOSPC");
        assert_eq!(errno(file.append("x").await), Some(28), "ENOSPC");
        let memory = worker.open("/proc/self/mem").await?;
        assert_eq!(errno(memory.read_at(worker.buf().await?, 0).await), Some(5), "EIO");
        Ok(())
    });
    ends_empty(pool);
}

/// A loop device over a file that has no room for what is written there: writing back fails.
struct Failing(String, #[allow(dead_code, reason = "it is under the device")] Tmpfs);

impl Failing {
    fn new() -> Option<Self> {
        let disk = Tmpfs::new("eio", "size=64k")?;
        let image = disk.0.path("image");
        fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("a sparse file");
        let made = Command::new("losetup").args(["-f", "--show"]).arg(&image).output();
        let made = made.ok().filter(|ran| ran.status.success());
        let name = made.and_then(|ran| String::from_utf8(ran.stdout).ok());
        let Some(name) = name.filter(|name| name.starts_with("/dev/")) else {
            println!("skipped: no loop device");
            return None;
        };
        Some(Self(name.trim().to_string(), disk))
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn a_sync_that_lost_writes_is_told_to_every_later_one() {
    let Some(device) = Failing::new() else { return };
    let pool = pool();
    let path = PathBuf::from(&device.0);
    from_both!(pool, async |worker, path| {
        let file = worker.open_with(&path, OpenOptions::new().write()).await?;
        file.write_copy_at(&[7; 1 << 20], 0).await?;
        let first = errno(file.sync_data().await);
        assert!(matches!(first, Some(5 | 28)), "{first:?}");
        // The kernel has told it, and would say that all is well.
        assert_eq!(errno(file.sync_data().await), first);
        assert_eq!(errno(file.sync_all().await), first);
        file.close().await
    });
    ends_empty(pool);
}

// ---- limits and rights ----

#[test]
fn a_limit_of_file_size_is_efbig_where_its_signal_is_ignored() {
    alone("a_limit_of_file_size_is_efbig_where_its_signal_is_ignored", || {
        // SAFETY: no handler runs.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        limit(libc::RLIMIT_FSIZE, 20_000);
        let (pool, dir) = (pool(), Dir::new("fsize"));
        let path = dir.path("a");
        from_both!(pool, async |worker, path| {
            let file = worker.open_with(&path, fresh()).await?;
            assert_eq!(errno(file.write_copy_at(&[1; 30_000], 0).await), Some(27), "EFBIG");
            assert_eq!(file.metadata().await?.len(), 20_000, "all that may be is there");
            assert_eq!(errno(file.append("x").await), Some(27));
            assert_eq!(errno(file.set_len(20_001).await), Some(27));
            file.set_len(10).await?;
            assert_eq!(file.append("x").await?, 10);
            Ok(())
        });
        ends_empty(pool);
        true
    });
}

#[test]
fn a_limit_of_file_size_ends_the_process_as_it_does_for_any_write() {
    if is_child() {
        limit(libc::RLIMIT_FSIZE, 20_000);
        limit(libc::RLIMIT_CORE, 0);
        let (pool, dir) = (pool(), Dir::new("xfsz"));
        let path = dir.path("a");
        let write = async move |worker: Worker<Two>| -> Result {
            let file = worker.open_with(&path, fresh()).await?;
            file.write_copy_at(&[1; 30_000], 0).await
        };
        println!("{:?}", pool.on(0, write).map(errno));
        return;
    }
    let test = "a_limit_of_file_size_ends_the_process_as_it_does_for_any_write";
    let ended = again(test).wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stdout);
    // Where the kernel's own helper writes, the signal is the helper's, and the error is told.
    assert!(
        ended.status.signal() == Some(libc::SIGXFSZ) || said.contains("Ok(Some(27))"),
        "{said}"
    );
}

#[test]
fn a_file_system_that_is_read_only_says_so() {
    let Some(disk) = Tmpfs::new("rofs", "size=64k") else { return };
    let root = disk.0.0.clone();
    fs::write(root.join("a"), "text").expect("writes");
    let remounted =
        Command::new("mount").args(["-o", "remount,ro"]).arg(&root).status().expect("runs");
    assert!(remounted.success());
    let pool = pool();
    from_both!(pool, async |worker, root| {
        let path = root.join("a");
        assert_eq!(errno(worker.open_with(&path, OpenOptions::new().write()).await), Some(30));
        assert_eq!(errno(worker.open_with(root.join("b"), fresh()).await), Some(30), "EROFS");
        assert_eq!(errno(worker.write_atomic(&path, b"x").await), Some(30));
        assert_eq!(errno(worker.rename(&path, root.join("b")).await), Some(30));
        let file = worker.open(&path).await?;
        assert_eq!(&file.read_at(worker.buf().await?, 0).await?[..], b"text");
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn a_right_that_the_user_lacks_is_no_matter_of_the_declaration() {
    alone("a_right_that_the_user_lacks_is_no_matter_of_the_declaration", || {
        if !become_nobody() {
            return false;
        }
        let pool = pool();
        let path = PathBuf::from("/proc/1/mem");
        from_both!(pool, async |worker, path| {
            let error = worker.open(&path).await.expect_err("it is another's");
            assert!(matches!(error, Error::Os { errno: 13, .. }), "{error}");
            assert!(!error.to_string().contains("allow"), "{error}");
            Ok(())
        });
        ends_empty(pool);
        true
    });
}

// ---- what is not declared ----

kio::pool! {
    struct NoPaths;
    entry = nothing,
    pin = off,
    files = 4,
    buffers = 16 x 4 KiB,
    conns = 4,
    calls = 4 x 16 KiB,
}

kio::pool! {
    struct NoFiles;
    entry = nothing,
    pin = off,
    buffers = 16 x 4 KiB,
    conns = 4,
    calls = 4 x 16 KiB,
}

#[test]
fn names_that_may_not_be_changed_are_refused_and_the_key_is_named() {
    let (pool, dir) = (NoPaths::start_when_free().expect("starts"), Dir::new("names"));
    let root = dir.0.clone();
    let run = async move |worker: Worker<NoPaths>| -> Result {
        let (a, b) = (root.join("a"), root.join("b"));
        let file = worker.open_with(&a, fresh()).await?;
        file.write_all_at("text", 0).await?;
        let refused = [
            ("rename", worker.rename(&a, &b).await),
            ("rename", worker.rename_new(&a, &b).await),
            ("hard_link", worker.hard_link(&a, &b).await),
            ("symlink", worker.symlink("a", &b).await),
            ("remove_file", worker.remove_file(&a).await),
            ("remove_dir", worker.remove_dir(&root).await),
            ("create_dir", worker.create_dir(&b).await),
            ("write_atomic", worker.write_atomic(&a, b"x").await),
        ];
        for (doing, result) in refused {
            let error = result.expect_err("it is not declared");
            assert_eq!(error, Error::NotAllowed(doing));
            assert!(error.to_string().contains("`allow = [paths]`"), "{error}");
        }
        assert_eq!(worker.stat(&a).await?.len(), 4, "to look is no change");
        assert_eq!(fs::read_dir(&root).expect("reads").count(), 1, "nothing was made");
        Ok(())
    };
    pool.on(0, run).expect("the call runs").expect("the claim holds");
}

#[test]
fn files_that_are_not_declared_are_refused_and_the_key_is_named() {
    let pool = NoFiles::start_when_free().expect("starts");
    let run = async move |worker: Worker<NoFiles>| -> Result {
        let path = Path::new("/dev/null");
        let errors = [
            worker.open(path).await.err(),
            worker.stat(path).await.err(),
            worker.read_dir("/").await.err(),
            worker.remove_file("/none/of/these").await.err(),
            worker.write_atomic("/none/of/these", b"").await.err(),
        ];
        for error in errors {
            let error = error.expect("it is not declared").to_string();
            assert!(error.contains("`files"), "{error}");
        }
        Ok(())
    };
    pool.on(0, run).expect("the call runs").expect("the claim holds");
}

// ---- locked memory ----

kio::pool! {
    struct Auto;
    entry = nothing,
    pin = off,
    files = 4,
    buffers = 4096 x 4 KiB,
    conns = 4,
    calls = 4 x 16 KiB,
    registered = auto,
}

kio::pool! {
    struct Require;
    entry = nothing,
    pin = off,
    files = 4,
    buffers = 4096 x 4 KiB,
    conns = 4,
    calls = 4 x 16 KiB,
    registered = require,
}

fn little_locked_memory(test: &str, most: u64) {
    alone(test, || {
        limit(libc::RLIMIT_MEMLOCK, most);
        if !become_nobody() {
            return false;
        }
        match Require::start() {
            Err(Error::Start(error @ StartError::LockedMemory { need, allowed })) => {
                assert_eq!(allowed, most);
                assert!(need > most, "{need}");
                let text = error.to_string();
                assert!(text.contains("ulimit -l"), "{text}");
            }
            Err(error) => panic!("another error: {error}"),
            Ok(_) => panic!("16 MiB are registered, of {most} bytes allowed"),
        }
        let pool = match Auto::start() {
            // Rings are charged too, from 6.14 on.
            Err(Error::Start(StartError::LockedMemory { .. })) if most < 1 << 20 => return true,
            started => started.expect("it does without"),
        };
        let run = async move |worker: Worker<Auto>| -> Result {
            let file = worker.open("/proc/self/status").await?;
            assert!(file.read_at(worker.buf().await?, 0).await?.starts_with(b"Name:"));
            Ok(())
        };
        pool.on(0, run).expect("the call runs").expect("reads");
        pool.stop();
        pool.join().expect("ends");
        true
    });
}

#[test]
fn with_64_kib_of_locked_memory_files_are_read_without_or_it_is_told() {
    little_locked_memory(
        "with_64_kib_of_locked_memory_files_are_read_without_or_it_is_told",
        64 << 10,
    );
}

#[test]
fn with_8_mib_of_locked_memory_files_are_read_without_or_it_is_told() {
    little_locked_memory(
        "with_8_mib_of_locked_memory_files_are_read_without_or_it_is_told",
        8 << 20,
    );
}

// ---- files that change, and short reads and writes ----

#[test]
fn a_file_that_becomes_shorter_is_sent_and_read_as_far_as_it_goes() {
    let (pool, dir) = (pool(), Dir::new("shorter"));
    let path = dir.path("a");
    let bytes = kio_tests::pattern(2_000_000);
    from_both!(pool, async |worker, path, bytes| {
        fs::write(&path, &bytes).expect("writes");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let addr = listener.local_addr().expect("is bound");
        let cut = path.clone();
        let peer = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("accepts");
            let mut got = vec![0; 100_000];
            peer.read_exact(&mut got).expect("reads");
            let file = fs::OpenOptions::new().write(true).open(cut).expect("opens");
            file.set_len(1_000_000).expect("cuts");
            peer.read_to_end(&mut got).expect("reads");
            got
        });
        let file = worker.open(&path).await?;
        let mut conn = worker.connect(addr).await?;
        let sent = file.send_to(&mut conn, 0..2_000_000).await?;
        conn.close().await?;
        let got = peer.join().expect("ends");
        assert_eq!(sent as usize, got.len());
        assert!(got.len() >= 100_000 && got[..100_000] == bytes[..100_000]);
        let cut = got.len().min(1_000_000);
        assert!(got[..cut] == bytes[..cut], "what is there is sent as it is");
        let late = file.read_exact_at(worker.buf().await?, 999_990, 20).await;
        assert_eq!(late.err(), Some(Error::EndOfFile));
        assert!(file.read_at(worker.buf().await?, 1_500_000).await?.is_empty());
        file.close().await
    });
    ends_empty(pool);
}

#[test]
fn short_reads_and_writes_are_carried_on() {
    let (pool, dir) = (pool(), Dir::new("short"));
    let path = dir.fifo("fifo");
    from_both!(pool, async |worker, path| {
        let file = worker.open_with(&path, OpenOptions::new().write()).await?;
        let (go, went) = mpsc::channel::<usize>();
        let other = path.clone();
        let peer = std::thread::spawn(move || {
            let mut pipe =
                fs::OpenOptions::new().read(true).write(true).open(other).expect("opens");
            for n in went {
                pipe.write_all(&vec![b'p'; n]).expect("writes");
            }
            let mut got = vec![0; 500_000];
            pipe.read_exact(&mut got).expect("reads");
            got
        });
        // A pipe gives what is there.
        go.send(3).expect("it listens");
        assert_eq!(&file.read_at(worker.buf().await?, 0).await?[..], b"ppp");
        for n in [1, 2, 3, 4] {
            go.send(n).expect("it listens");
        }
        let exact = file.read_exact_at(worker.buf().await?, 0, 10).await?;
        assert_eq!(&exact[..], b"pppppppppp");
        drop(go);
        // More than a pipe holds.
        static LONG: [u8; 500_000] = [b'k'; 500_000];
        file.write_all_at(&LONG, 0).await?;
        assert!(peer.join().expect("ends") == LONG);
        file.close().await
    });
    ends_empty(pool);
}

#[test]
fn an_offset_that_no_file_has_is_an_error() {
    let (pool, dir) = (pool(), Dir::new("offset"));
    let path = dir.path("a");
    from_both!(pool, async |worker, path| {
        let file = worker.open_with(&path, fresh()).await?;
        file.write_all_at("text", 0).await?;
        // The kernel takes -1 for "where the descriptor stands".
        for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
            assert_eq!(errno(file.read_at(worker.buf().await?, offset).await), Some(22));
            assert_eq!(errno(file.write_all_at("x", offset).await), Some(22), "EINVAL");
            assert_eq!(errno(file.set_len(offset).await), Some(22));
            assert_eq!(errno(file.allocate(offset, 1).await), Some(22));
            assert_eq!(errno(file.advise(Advice::Random, offset, 0).await), Some(22));
        }
        let end = i64::MAX as u64;
        assert!(file.read_at(worker.buf().await?, end).await.map_or(true, |buf| buf.is_empty()));
        assert!(file.write_all_at("x", end).await.is_err());
        assert_eq!(file.append("x").await?, 4);
        file.close().await
    });
    ends_empty(pool);
}

#[test]
fn two_who_read_a_directory_each_have_all_of_it() {
    let (pool, dir) = (pool(), Dir::new("twice"));
    let root = dir.0.clone();
    for i in 0..500 {
        fs::write(dir.path(&format!("{i:030}")), "").expect("writes");
    }
    from_both!(pool, async |worker, root| {
        let mut first = worker.read_dir(&root).await?;
        let mut second = worker.read_dir(&root).await?;
        let (mut a, mut b) = (0, 0);
        loop {
            let one = first.next().await?.is_some();
            let other = second.next().await?.is_some();
            a += usize::from(one);
            b += usize::from(other);
            if !one && !other {
                break;
            }
        }
        assert_eq!((a, b), (500, 500));
        let mut third = worker.read_dir(&root).await?;
        assert!(third.next().await?.is_some(), "from its begin");
        Ok(())
    });
    ends_empty(pool);
}

#[test]
fn a_temporary_file_of_somebody_else_is_left_alone() {
    let (pool, dir) = (pool(), Dir::new("temporary"));
    let root = dir.0.clone();
    let others = || fs::read_dir(&dir.0).expect("reads").count();
    for worker in [0, 1] {
        // As a process of this number had left them that was killed.
        for nth in 0..20 {
            let name = format!(".kio-{}-{worker}-{nth}", std::process::id());
            fs::write(dir.path(&name), "another's").expect("writes");
        }
    }
    from_both!(pool, async |worker, root| {
        for text in ["one", "two"] {
            worker.write_atomic(root.join("config"), text.as_bytes()).await?;
            assert_eq!(fs::read_to_string(root.join("config")).expect("reads"), text);
        }
        Ok(())
    });
    assert_eq!(others(), 41);
    ends_empty(pool);
}

// ---- processes that are killed ----

/// Kills the child once it has said so many lines that begin with `word`; what it said of each.
fn kill_after(mut child: Child, word: &str, lines: usize) -> Vec<String> {
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut said = Vec::new();
    for line in output.lines() {
        let line = line.expect("text");
        if let Some(rest) = line.strip_prefix(word) {
            said.push(rest.to_string());
        }
        if said.len() == lines {
            child.kill().expect("it runs");
        }
    }
    let status = child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(libc::SIGKILL), "it was killed, and not before");
    said
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

#[test]
fn a_process_killed_while_it_replaces_a_file_leaves_the_old_or_the_new() {
    const TEST: &str = "a_process_killed_while_it_replaces_a_file_leaves_the_old_or_the_new";
    if is_child() {
        let path = PathBuf::from(std::env::var_os("KIO_FAULT_PATH").expect("a path"));
        let pool = pool();
        for worker in [0, 1].into_iter().cycle() {
            let path = path.clone();
            let replace = async move |worker: Worker<Two>| -> Result {
                for i in 0..10 {
                    worker.write_atomic(&path, &vec![b'a' + i; 60_000]).await?;
                    say("replaced");
                }
                Ok(())
            };
            pool.on(worker, replace).expect("the call runs").expect("replaces");
        }
    }
    let dir = Dir::new("killed");
    let path = dir.path("config");
    for round in 0..scaled(20) {
        let child = again_at(TEST, &path);
        kill_after(child, "replaced", 3 + round);
        let found = fs::read(&path).expect("reads");
        assert_eq!(found.len(), 60_000);
        assert!(found.iter().all(|byte| *byte == found[0]), "never a part");
    }
}

/// As [`again`], with a path that the child works on.
fn again_at(test: &str, path: &Path) -> Child {
    // SAFETY of the variable: tests that set it run `again_at` only, one value a test.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: nothing in this program reads the environment while another thread writes it: `again`
    // hands it to a child, under this lock where the variable matters.
    unsafe { std::env::set_var("KIO_FAULT_PATH", path) };
    again(test)
}

#[test]
fn a_process_killed_in_group_commit_has_written_all_it_acknowledged() {
    const TEST: &str = "a_process_killed_in_group_commit_has_written_all_it_acknowledged";
    if is_child() {
        let path = PathBuf::from(std::env::var_os("KIO_FAULT_PATH").expect("a path"));
        let pool = pool();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (path, pool) = (path.clone(), &pool);
                scope.spawn(move || {
                    let commit = async move |worker: Worker<Two>| -> Result {
                        let file = worker.open_with(&path, OpenOptions::new().create()).await?;
                        for i in 0.. {
                            let mut record = worker.buf().await?;
                            record.put(format!("{thread}-{i:06};").as_bytes())?;
                            file.append(record).await?;
                            file.sync_data().await?;
                            say(&format!("acknowledged {thread}-{i:06};"));
                        }
                        Ok(())
                    };
                    let _ = pool.on(thread % 2, commit);
                });
            }
        });
    }
    let dir = Dir::new("group");
    let path = dir.path("log");
    for round in 0..scaled(5) {
        let _ = fs::remove_file(&path);
        let said = kill_after(again_at(TEST, &path), "acknowledged ", 50 + round * 37);
        let log = fs::read_to_string(&path).expect("text: no record over another, no hole");
        for record in said {
            assert!(log.contains(&record), "{record} was acknowledged");
        }
    }
}

// ---- workers that are busy, full, or stop ----

#[test]
fn a_file_of_a_worker_that_is_busy_waits_for_it() {
    let (pool, dir) = (pool(), Dir::new("busy"));
    let path = dir.path("a");
    let (busy, is_busy) = mpsc::channel();
    let (let_go, free) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let pool = &pool;
        scope.spawn(move || {
            let block = async move |_: Worker<Two>| {
                busy.send(()).expect("somebody waits");
                free.recv().expect("it is let go");
            };
            pool.on(1, block).expect("the call runs");
        });
        is_busy.recv().expect("it runs");
        let ask = async move |worker: Worker<Two>| -> Result {
            let asks = async move || -> Result {
                let file = worker.open_with(&path, fresh()).await?;
                file.append("text").await?;
                file.sync_all().await?;
                file.close().await
            };
            // Given up before the owner has even looked.
            for _ in 0..4 {
                assert!(poll_then_drop(1, asks()).await.is_none());
            }
            let task = worker.spawn(asks).map_err(Error::from)?;
            yield_now().await;
            let_go.send(()).expect("it waits");
            task.await?
        };
        pool.on(0, ask).expect("the call runs").expect("the file is written");
    });
    ends_empty(pool);
}

#[test]
fn a_file_of_a_worker_whose_arena_is_full_is_read_all_the_same() {
    let (pool, dir) = (pool(), Dir::new("arena"));
    let path = dir.path("a");
    fs::write(&path, "text").expect("writes");
    let fill = async move |worker: Worker<Two>| -> usize {
        let mut tasks = 0;
        while worker.spawn(async move || worker.stopping().await).is_ok() {
            tasks += 1;
        }
        tasks
    };
    assert_eq!(pool.on(1, fill), Ok(64));
    from_both!(pool, async |worker, path| {
        let file = worker.open(&path).await?;
        assert_eq!(&file.read_at(worker.buf().await?, 0).await?[..], b"text");
        file.close().await
    });
    ends_empty(pool);
}

/// Does everything that is done with files, over and over, until the pool stops.
async fn keep_busy(worker: Core, root: PathBuf, name: String) -> Result {
    let path = root.join(&name);
    loop {
        let file = worker.open_with(&path, OpenOptions::new().create()).await?;
        file.append("some text").await?;
        file.sync_data().await?;
        let bufs = [worker.buf().await?, worker.buf().await?];
        drop(file.read_scattered_at(bufs, 0).await?);
        file.set_len(100).await?;
        worker.stat(&path).await?;
        worker.write_atomic(root.join(format!("{name}-b")), b"text").await?;
        file.close().await?;
    }
}

#[test]
fn a_stop_in_the_middle_of_everything_ends_empty() {
    let dir = Dir::new("stop");
    for round in 0..scaled(20) {
        let pool = pool();
        for worker in [0, 1] {
            let root = dir.0.clone();
            let start = async move |worker: Worker<Two>| -> Result {
                for task in 0..6 {
                    let (root, name) = (root.clone(), format!("{}-{task}", worker.index()));
                    let busy = move || keep_busy(worker.core(), root, name);
                    drop(worker.spawn(busy).map_err(Error::from)?);
                }
                // So much is done before the stop, each time another moment.
                for _ in 0..round * 3 {
                    yield_now().await;
                }
                Ok(())
            };
            pool.on(worker, start).expect("the call runs").expect("spawns");
        }
        ends_empty(pool);
    }
}

#[test]
fn a_stop_ends_more_hanging_opens_than_there_are_operations() {
    let (pool, dir) = (pool(), Dir::new("hanging"));
    let path = dir.fifo("fifo");
    for worker in [0, 1] {
        let path = path.clone();
        let run = async move |worker: Worker<Two>| -> Result {
            for _ in 0..10 {
                let path = path.clone();
                // Nobody ever opens the other side.
                let hang = async move || drop(worker.open(&path).await);
                drop(worker.spawn(hang).map_err(Error::from)?);
            }
            yield_now().await;
            Ok(())
        };
        pool.on(worker, run).expect("the call runs").expect("spawns");
    }
    ends_empty(pool);
}

async fn open_at_once(worker: Worker<Early>) -> Result {
    let file = worker.open_with("/dev/null", OpenOptions::new().write()).await?;
    file.append("x").await?;
    file.close().await
}

kio::pool! {
    struct Early;
    workers = 2,
    entry = open_at_once,
    pin = off,
    files = 4,
    buffers = 16 x 4 KiB,
    conns = 4,
    routes = { _ => 1 },
}

#[test]
fn an_entry_may_open_a_file_of_a_worker_that_is_not_up_yet() {
    for _ in 0..scaled(100) {
        let pool = Early::start_when_free().expect("starts");
        pool.stop();
        pool.join().expect("ends");
    }
}

#[test]
fn many_who_want_all_buffers_at_once_do_not_wait_for_each_other() {
    let (pool, dir) = (pool(), Dir::new("buffers"));
    let root = dir.0.clone();
    fs::write(dir.path("big"), vec![1; 300_000]).expect("writes");
    from_both!(pool, async |worker, root| {
        let mut tasks = Vec::new();
        for task in 0..40 {
            let root = root.clone();
            let run = async move || -> Result {
                let path = root.join(format!("{}-{task}", worker.index()));
                worker.write_atomic(&path, &[2; 20_000]).await?;
                worker.rename(&path, root.join("last")).await?;
                Ok(())
            };
            tasks.push(worker.spawn(run).map_err(Error::from)?);
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let addr = listener.local_addr().expect("is bound");
        std::thread::spawn(move || {
            let mut peers = Vec::new();
            for _ in 0..16 {
                let (mut peer, _) = listener.accept().expect("accepts");
                peers.push(std::thread::spawn(move || {
                    std::io::copy(&mut peer, &mut std::io::sink())
                }));
            }
        });
        for _ in 0..16 {
            let root = root.clone();
            let run = async move || -> Result {
                let file = worker.open(root.join("big")).await?;
                let mut conn = worker.connect(addr).await?;
                assert_eq!(file.send_to(&mut conn, 0..300_000).await?, 300_000);
                conn.close().await
            };
            tasks.push(worker.spawn(run).map_err(Error::from)?);
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    });
    ends_empty(pool);
}

// ---- futures that are given up, or forgotten ----

/// Every operation of files, given up after so many polls.
async fn give_all_up(worker: Core, root: &Path, polls: usize) -> Result {
    let (path, other) = (root.join("a"), root.join("b"));
    drop(poll_then_drop(polls, worker.open(&path)).await);
    drop(poll_then_drop(polls, worker.open_with(&path, fresh())).await);
    drop(poll_then_drop(polls, worker.open_local(&path, fresh())).await);
    let file = worker.open_with(&path, OpenOptions::new().create()).await?;
    file.set_len(20_000).await?;
    let buf = worker.buf().await?;
    drop(poll_then_drop(polls, file.read_at(buf, 0)).await);
    let buf = worker.buf().await?;
    drop(poll_then_drop(polls, file.read_full_at(buf, 0)).await);
    let buf = worker.buf().await?;
    drop(poll_then_drop(polls, file.read_exact_at(buf, 0, 8000)).await);
    let bufs = [worker.buf().await?, worker.buf().await?];
    drop(poll_then_drop(polls, file.read_scattered_at(bufs, 0)).await);
    let _ = poll_then_drop(polls, file.write_at("text", 0)).await;
    let _ = poll_then_drop(polls, file.write_all_at("text", 0)).await;
    let bufs = [worker.buf().await?.freeze(), worker.buf().await?.freeze()];
    let _ = poll_then_drop(polls, file.write_gathered_at(bufs, 0)).await;
    let _ = poll_then_drop(polls, file.write_copy_at(&[1; 20_000], 0)).await;
    let _ = poll_then_drop(polls, file.append("text")).await;
    let _ = poll_then_drop(polls, file.sync_all()).await;
    let _ = poll_then_drop(polls, file.sync_data()).await;
    let _ = poll_then_drop(polls, file.set_len(30_000)).await;
    let _ = poll_then_drop(polls, file.allocate(0, 30_000)).await;
    let _ = poll_then_drop(polls, file.punch_hole(0, 4096)).await;
    let _ = poll_then_drop(polls, file.advise(Advice::Random, 0, 0)).await;
    let _ = poll_then_drop(polls, file.metadata()).await;
    let _ = poll_then_drop(polls, file.close()).await;
    let _ = poll_then_drop(polls, worker.stat(&path)).await;
    let _ = poll_then_drop(polls, worker.stat_link(&path)).await;
    let _ = poll_then_drop(polls, worker.hard_link(&path, &other)).await;
    let _ = poll_then_drop(polls, worker.rename(&other, root.join("c"))).await;
    let _ = poll_then_drop(polls, worker.rename_new(&other, root.join("d"))).await;
    let _ = poll_then_drop(polls, worker.remove_file(&other)).await;
    let _ = poll_then_drop(polls, worker.symlink("a", &other)).await;
    drop(poll_then_drop(polls, worker.read_link(&other)).await);
    let _ = poll_then_drop(polls, worker.create_dir(root.join("e"))).await;
    let _ = poll_then_drop(polls, worker.remove_dir(root.join("e"))).await;
    let _ = poll_then_drop(polls, worker.write_atomic(root.join("f"), b"text")).await;
    if let Some(Ok(mut entries)) = poll_then_drop(polls, worker.read_dir(root)).await {
        let _ = poll_then_drop(polls, entries.next()).await;
    }
    Ok(())
}

/// Descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("a procfs").count()
}

#[test]
fn operations_given_up_at_any_await_hold_nothing_and_leak_no_descriptor() {
    // In a process of its own, which has no other descriptors that come and go.
    alone("operations_given_up_at_any_await_hold_nothing_and_leak_no_descriptor", || {
        let dir = Dir::new("given-up");
        ends_empty(pool());
        let before = descriptors();
        let pool = pool();
        let root = dir.0.clone();
        let most = scaled(60).max(12);
        from_both!(pool, async |worker, root| {
            for polls in 0..most {
                give_all_up(worker.core(), &root, polls).await?;
            }
            Ok(())
        });
        ends_empty(pool);
        // What rings had is given back in the kernel's own time.
        for _ in 0..1000 {
            if descriptors() <= before {
                break;
            }
            std::thread::yield_now();
        }
        assert!(descriptors() <= before, "{} were {before}", descriptors());
        true
    });
}

#[test]
fn sends_given_up_at_any_await_hold_nothing() {
    let (pool, dir) = (pool(), Dir::new("send"));
    let path = dir.path("a");
    fs::write(&path, vec![1; 200_000]).expect("writes");
    from_both!(pool, async |worker, path| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let addr = listener.local_addr().expect("is bound");
        let rounds = scaled(40);
        std::thread::spawn(move || {
            for _ in 0..rounds {
                let (mut peer, _) = listener.accept().expect("accepts");
                let _ = std::io::copy(&mut peer, &mut std::io::sink());
            }
        });
        for polls in 0..rounds {
            let file = worker.open(&path).await?;
            let mut conn = worker.connect(addr).await?;
            let _ = poll_then_drop(polls, file.send_to(&mut conn, 0..200_000)).await;
        }
        Ok(())
    });
    ends_empty(pool);
}

macro_rules! retires {
    ($test:ident, $pool:ident, async |$worker:ident, $path:ident| $body:block) => {
        kio::pool! {
            struct $pool;
            workers = 2,
            entry = nothing,
            pin = off,
            files = 8,
            file_ops = 8,
            buffers = 32 x 4 KiB,
            conns = 4,
            calls = 4 x 16 KiB,
            allow = [paths],
            routes = { _ => 1 },
        }

        #[test]
        fn $test() {
            let dir = Dir::new(stringify!($pool));
            let pool = $pool::start().expect("starts");
            for worker in [0, 1] {
                let $path = dir.path("a");
                let run = async move |$worker: Worker<$pool>| -> Result { $body };
                pool.on(worker, run).expect("the call runs").expect("the claim holds");
            }
            pool.stop();
            pool.join().expect("ends");
            match $pool::start().map(drop) {
                Err(Error::Start(StartError::Retired(held))) => assert!(held.files > 0, "{held:?}"),
                other => panic!("it is retired, and says so: {other:?}"),
            }
        }
    };
}

retires!(a_file_that_is_forgotten_retires_the_pool, Forgets, async |worker, path| {
    std::mem::forget(worker.open_with(&path, fresh()).await?);
    Ok(())
});

retires!(operations_that_are_forgotten_retire_the_pool, ForgetsOps, async |worker, path| {
    let file = Box::leak(Box::new(worker.open_with(&path, fresh()).await?));
    let (file, buf) = (&*file, worker.buf().await?);
    let read = Box::leak(Box::new(file.read_at(buf, 0)));
    let append = Box::leak(Box::new(file.append("text")));
    let sync = Box::leak(Box::new(file.sync_all()));
    // SAFETY: what is leaked never moves.
    let (read, append, sync) = unsafe {
        use std::pin::Pin;
        (Pin::new_unchecked(read), Pin::new_unchecked(append), Pin::new_unchecked(sync))
    };
    assert!(poll_then_drop(1, read).await.is_none());
    assert!(poll_then_drop(1, append).await.is_none());
    assert!(poll_then_drop(1, sync).await.is_none());
    Ok(())
});

thread_local! {
    /// What outlives its worker's loop.
    static HIDDEN: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
}

retires!(a_file_hidden_in_a_thread_local_retires_the_pool, Hides, async |worker, path| {
    let file = worker.open_with(&path, fresh()).await?;
    HIDDEN.with_borrow_mut(|hidden| hidden.push(file));
    Ok(())
});
