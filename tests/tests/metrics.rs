//! What a pool tells of itself: counts, high-water marks, times of turns.

use std::io::{Read, Write};
use std::time::Duration;

use kio::net::TcpStream;
use kio::{Core, Usage, Worker};
use kio_tests::{client, yield_now};

kio::pool! {
    struct Counted;
    pin = off,
    listen = { "127.0.0.1:0" => echo },
    tasks = { echo: 4, nap as sleeper: 2 },
    conns = 16,
    buffers = 32 x 4 KiB,
    files = 4,
    file_ops = 8,
    calls = 8 x 1 KiB,
}

async fn echo(mut conn: TcpStream) -> kio::Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    conn.close().await
}

async fn nap(core: Core) {
    core.stopping().await;
}

fn usage(pool: &kio::Handle<Counted>, name: &str) -> Usage {
    pool.usage(0).find(|usage| usage.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Waits until the worker has counted what is asked for, seen from outside.
fn until(pool: &kio::Handle<Counted>, seen: impl Fn(&kio::Stats, &kio::Handle<Counted>) -> bool) {
    let began = std::time::Instant::now();
    while !pool.stats().all(|stats| seen(&stats, pool)) {
        assert!(began.elapsed() < kio_tests::HANG, "{:#?}", pool.stats().next());
        std::thread::yield_now();
    }
}

#[test]
fn operations_are_counted_by_kind() {
    let pool = Counted::start_when_free().unwrap();
    let mut one = client(pool.local_addr().unwrap());
    for _ in 0..10 {
        one.write_all(b"hello").unwrap();
        one.read_exact(&mut [0; 5]).unwrap();
    }
    drop(one);
    // Wake-ups are no operation of anybody's, and a turn under way counts one after the other.
    let counted = |stats: &kio::Stats| {
        let all: u64 = stats.ops.iter().map(|(_, count)| count).sum();
        all - stats.ops.wake - stats.ops.message == stats.submitted
    };
    until(&pool, |stats, _| stats.open == 0 && stats.accepted == 1 && counted(stats));
    let stats = pool.stats().next().unwrap();
    assert_eq!((stats.received, stats.sent), (50, 50));
    assert_eq!(stats.ops.send, 10);
    assert!(stats.ops.accept >= 1 && stats.ops.recv >= 1 && stats.ops.wake >= 1, "{stats:#?}");
    // Before 6.13 a socket is closed by close(2).
    assert!(stats.ops.close <= 1, "{stats:#?}");
    assert_eq!((stats.ops.connect, stats.ops.read, stats.ops.path), (0, 0, 0));
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn file_operations_and_their_bytes_are_counted() {
    let pool = Counted::start_when_free().unwrap();
    let path = std::env::temp_dir().join(format!("kio-metrics-{}", std::process::id()));
    let name = path.clone();
    let write = async move |worker: Worker<Counted>| {
        let options = kio::fs::OpenOptions::new().create();
        let file = worker.open_with(&name, options).await?;
        file.append("some bytes").await?;
        file.sync_data().await?;
        let read = file.read_at(worker.buf().await?, 5).await?;
        assert_eq!(&read[..], b"bytes");
        file.close().await
    };
    pool.on(0, write).unwrap().unwrap();
    let stats = pool.stats().next().unwrap();
    let ops = stats.ops;
    assert_eq!((ops.write, ops.read, ops.sync), (1, 1, 1), "{ops:?}");
    assert_eq!((stats.file_written, stats.file_read), (10, 5));
    assert!(ops.open >= 1 && ops.close >= 1, "{ops:?}");
    for (name, size) in [("files", 4), ("file_handles", 4), ("file_ops", 8)] {
        let of = usage(&pool, name);
        assert_eq!((of.size, of.used, of.peak, of.is_task), (size, 0, 1, false), "{of:?}");
    }
    let _ = std::fs::remove_file(path);
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn every_table_keeps_its_high_water_mark() {
    let pool = Counted::start_when_free().unwrap();
    let addr = pool.local_addr().unwrap();
    let names: Vec<_> = pool.usage(0).map(|usage| usage.name).collect();
    let declared = ["buffers", "sockets", "files", "file_handles", "file_ops", "echo", "sleeper"];
    assert!(declared.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(names.contains(&"spawn") && names.contains(&"calls"), "{names:?}");

    let mut clients: Vec<_> = (0..5).map(|_| client(addr)).collect();
    // The fifth waits in the backlog: the accept loop waits for a slot.
    for one in &mut clients[..4] {
        one.write_all(b"x").unwrap();
        one.read_exact(&mut [0]).unwrap();
    }
    until(&pool, |_, pool| usage(pool, "echo").waits == 1);
    let tasks = usage(&pool, "echo");
    assert_eq!((tasks.size, tasks.used, tasks.peak, tasks.is_task), (4, 4, 4, true));
    assert!(usage(&pool, "sockets").peak >= 4 && usage(&pool, "sockets").size == 16);
    let held = usage(&pool, "buffers");
    assert!(held.size == 32 && held.peak >= 1 && held.peak <= 32, "{held:?}");
    drop(clients);
    // The accept loop holds a slot for whoever comes next.
    until(&pool, |stats, pool| stats.open == 0 && usage(pool, "echo").used == 1);
    assert_eq!(usage(&pool, "echo").peak, 4);

    let spawn = async move |worker: Worker<Counted>| {
        let naps: Vec<_> =
            (0..3).map(|_| worker.spawn(move || nap(worker.core())).is_ok()).collect();
        yield_now().await;
        naps
    };
    assert_eq!(pool.on(0, spawn).unwrap(), [true, true, false]);
    let naps = usage(&pool, "sleeper");
    assert_eq!((naps.used, naps.peak, naps.waits), (2, 2, 1));
    assert!(usage(&pool, "calls").peak >= 1);
    pool.stop();
    pool.join().unwrap();

    // A new run counts anew.
    let pool = Counted::start_when_free().unwrap();
    assert_eq!((usage(&pool, "sleeper").peak, usage(&pool, "echo").waits), (0, 0));
    drop(pool);
}

#[test]
fn turns_are_timed_and_the_longest_shows() {
    let pool = Counted::start_when_free().unwrap();
    let busy = async |_: Worker<Counted>| {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
    };
    pool.on(0, busy).unwrap();
    // The turn is counted at its end.
    until(&pool, |stats, _| stats.turn_times.longest_ns >= 20_000_000);
    let stats = pool.stats().next().unwrap();
    let times = stats.turn_times;
    assert!(times.sum_ns >= times.longest_ns);
    assert!(times.quantile(1.0) >= Duration::from_millis(20));
    assert!(stats.cpu_ns > 0);
    // Sleeping is in no turn.
    let before = pool.stats().next().unwrap();
    pool.on(0, async |worker: Worker<Counted>| worker.sleep(Duration::from_millis(50)).await)
        .unwrap();
    let after = pool.stats().next().unwrap();
    assert!(after.turns > before.turns);
    assert!(after.wake_ups > before.wake_ups, "a call wakes a worker that sleeps");
    assert!(times.count() <= after.turns);
    pool.stop();
    pool.join().unwrap();
}
