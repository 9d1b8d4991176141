//! Traces of real exchanges: events in the order of their life, and JSON that a viewer takes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use kio::net::TcpStream;
use kio::trace::{Event, Kind};
use kio::{Handle, Worker};
use kio_tests::{HANG, client, yield_now};
use serde_json::Value;

kio::pool! {
    struct Traced;
    workers = 2,
    pin = off,
    listen = { "127.0.0.1:0" => echo },
    tasks = { short: 4 },
    conns = 16,
    buffers = 64 x 4 KiB,
    files = 2,
    calls = 8 x 1 KiB,
}

async fn echo(mut conn: TcpStream) -> kio::Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    conn.close().await
}

async fn short() {
    yield_now().await;
}

/// One echo; the events of the worker that had it.
fn echoed(pool: &Handle<Traced>) -> Vec<Event> {
    let mut one = client(pool.local_addr().unwrap());
    one.write_all(b"hello").unwrap();
    one.read_exact(&mut [0; 5]).unwrap();
    drop(one);
    let began = std::time::Instant::now();
    while pool.stats().any(|stats| stats.open > 0) {
        assert!(began.elapsed() < HANG);
        std::thread::yield_now();
    }
    let has =
        |worker: &usize| pool.trace(*worker).any(|e| e.kind == Kind::Submit && e.name == "send");
    pool.trace((0..2).find(has).expect("one had it")).collect()
}

/// Whether the events have these, in this order, others between them.
fn has_in_order(events: &[Event], wanted: &[(Kind, &str)]) {
    let mut rest = events.iter();
    for (kind, name) in wanted {
        let found = rest.any(|event| event.kind == *kind && event.name == *name);
        assert!(found, "no {kind:?} {name} in its place:\n{}", text(events));
    }
}

fn text(events: &[Event]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

#[test]
fn an_echo_is_traced_from_its_accept_to_its_close() {
    let pool = Traced::start_when_free().unwrap();
    let events = echoed(&pool);
    has_in_order(
        &events,
        &[
            (Kind::Submit, "accept"),
            (Kind::Complete, "accept"),
            (Kind::Wake, "listen: echo"),
            (Kind::Poll, "listen: echo"),
            (Kind::Spawn, "echo"),
            (Kind::Wake, "echo"),
            (Kind::Poll, "echo"),
            (Kind::PollEnd, "echo"),
            (Kind::Submit, "recv"),
            (Kind::Enter, ""),
            (Kind::EnterEnd, ""),
            (Kind::Complete, "recv"),
            (Kind::Wake, "echo"),
            (Kind::Poll, "echo"),
            (Kind::Submit, "send"),
            (Kind::Complete, "send"),
            (Kind::Wake, "echo"),
        ],
    );
    let received = events.iter().find(|e| e.kind == Kind::Complete && e.name == "recv").unwrap();
    assert_eq!((received.result, received.more), (5, true), "a multishot receive goes on");
    assert!(events.is_sorted_by_key(|event| event.ns));
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn each_completion_has_a_submission_and_each_poll_an_end() {
    let pool = Traced::start_when_free().unwrap();
    let events = echoed(&pool);
    let (mut open, mut polled) = (BTreeSet::new(), None);
    for event in &events {
        match event.kind {
            // A cancel has the number of what it cancels.
            Kind::Submit if event.name != "cancel" => assert!(open.insert(event.id), "{event}"),
            Kind::Complete if !["wake", "cancel", "message"].contains(&event.name) => {
                assert!(open.contains(&event.id), "{event}");
                if !event.more {
                    open.remove(&event.id);
                }
            }
            Kind::Poll => assert!(polled.replace(event.subject).is_none(), "{event}"),
            Kind::PollEnd => assert_eq!(polled.take(), Some(event.subject), "{event}"),
            _ => {}
        }
    }
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn file_operations_and_spawned_tasks_have_their_names() {
    let pool = Traced::start_when_free().unwrap();
    let path = std::env::temp_dir().join(format!("kio-trace-{}", std::process::id()));
    let to = path.clone();
    let write = async move |worker: Worker<Traced>| {
        let file = worker.open_with(&to, kio::fs::OpenOptions::new().create()).await?;
        file.append("bytes").await?;
        file.sync_data().await?;
        let _ = worker.spawn(short)?.await;
        file.close().await
    };
    pool.on(0, write).unwrap().unwrap();
    let events: Vec<_> = pool.trace(0).collect();
    let _ = std::fs::remove_file(path);
    let life = ["open", "write", "sync"].map(|op| [(Kind::Submit, op), (Kind::Complete, op)]);
    has_in_order(&events, life.as_flattened());
    has_in_order(
        &events,
        &[
            (Kind::Spawn, "short"),
            (Kind::Poll, "short"),
            (Kind::Poll, "short"),
            (Kind::End, "short"),
        ],
    );
    has_in_order(&events, &[(Kind::Spawn, "calls"), (Kind::Poll, "calls")]);
    pool.stop();
    pool.join().unwrap();
}

/// What is in a trace's JSON that a viewer takes.
struct Shown {
    names: Vec<String>,
    /// The slices that have not ended, a track.
    open: BTreeMap<u64, Vec<f64>>,
    /// Operations that have ended.
    ended: usize,
}

/// Reads the JSON as strictly as Perfetto's importer.
fn shown(pool: &Handle<Traced>) -> Shown {
    let mut json = Vec::new();
    pool.write_trace(&mut json).unwrap();
    let json: Value = serde_json::from_slice(&json).expect("it is JSON");
    let events = json["traceEvents"].as_array().expect("a list");
    let mut shown = Shown { names: Vec::new(), open: BTreeMap::new(), ended: 0 };
    let (mut ops, mut arrows, mut last) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for event in events {
        let track = event["tid"].as_u64().expect("a track");
        let (phase, name) = (event["ph"].as_str().unwrap(), event["name"].as_str());
        assert_eq!(event["pid"], 1, "{event}");
        // By a name an end would be looked for; the others are shown by theirs.
        assert_eq!(name.is_none(), phase == "E", "{event}");
        if phase == "M" {
            shown.names.push(event["args"]["name"].as_str().unwrap().into());
            continue;
        }
        let ts = event["ts"].as_f64().expect("a time, in microseconds");
        let before = last.insert(track, ts).unwrap_or(0.0);
        assert!(ts >= before, "a track goes forward: {event}");
        let id = || (event["cat"].as_str().expect("a category"), event["id"].to_string());
        let open = shown.open.entry(track).or_default();
        match phase {
            "B" => open.push(ts),
            "E" => assert!(ts >= open.pop().expect("a slice that began")),
            // Those of an operation have one name, which is how they are found.
            "b" => assert!(ops.insert(id(), name).is_none(), "{event}"),
            "n" => assert!(ops.contains_key(&id()), "{event}"),
            "e" => {
                assert_eq!(ops.remove(&id()), Some(name), "{event}");
                shown.ended += 1;
            }
            "s" => assert!(arrows.insert(id(), ts).is_none() && !open.is_empty(), "{event}"),
            "f" => {
                let wake = arrows.remove(&id()).expect("an arrow that began");
                assert!(ts >= wake && event["bp"] == "e" && !open.is_empty(), "{event}");
            }
            "i" => assert_eq!(event["s"], "t"),
            _ => panic!("{event}"),
        }
    }
    shown
}

#[test]
fn the_json_is_whole_and_its_slices_and_operations_are_balanced() {
    let pool = Traced::start_when_free().unwrap();
    echoed(&pool);
    let Shown { names, open, ended } = shown(&pool);
    assert_eq!(names, ["Traced", "worker 0", "worker 1"]);
    // At most the sleep that each worker is in, and the receive, the accepts that are armed.
    assert!(open.values().all(|open| open.len() <= 1), "{open:?}");
    assert!(ended >= 2, "accept, send");
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn a_trace_read_under_load_is_in_order_and_bounded() {
    let pool = Traced::start_when_free().unwrap();
    let addr = pool.local_addr().unwrap();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut one = client(addr);
            for _ in 0..kio_tests::scaled(3000) {
                one.write_all(b"x").unwrap();
                one.read_exact(&mut [0]).unwrap();
            }
        });
        while !load.is_finished() {
            for worker in 0..2 {
                let events: Vec<_> = pool.trace(worker).collect();
                assert!(events.len() < 8192);
                assert!(events.is_sorted_by_key(|event| event.ns), "a torn event");
            }
        }
    });
    // What the oldest events began is overwritten: no end may be without its begin.
    assert!(shown(&pool).ended > 0);
    pool.stop();
    pool.join().unwrap();
    // A new run begins with nothing.
    let pool = Traced::start_when_free().unwrap();
    assert!(pool.trace(0).count() < 100);
    drop(pool);
}
