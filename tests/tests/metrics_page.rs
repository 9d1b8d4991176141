//! The page of metrics: its form, read strictly, and that no scraper costs more than its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::Instant;

use kio::metrics::{Kind, serve_with};
use kio::net::{Out, RecvHalf, SendHalf, Stream, TcpRecvHalf, TcpSendHalf, TcpStream};
use kio::{Buf, BufMut};
use kio_tests::{HANG, client, pattern, scaled};

async fn echo(mut conn: TcpStream) -> kio::Result<()> {
    while let Some(data) = conn.recv_idle().await? {
        conn.send(data).await?;
    }
    conn.close().await
}

/// kio's page, and a family with all that must be escaped.
async fn page(conn: TcpStream) -> kio::Result<()> {
    serve_with(conn, async |page| {
        page.family("app_odd", Kind::Gauge, "A help\nof two lines, with a \\.").await?;
        page.sample("app_odd", &[("name", &"\"quoted\"\\\nend"), ("n", &1)], 1.5).await?;
        page.sample("app_odd", &[], -2).await?;
        let bad = page.sample("app odd", &[], 1).await;
        assert!(bad.is_err_and(|error| error.to_string().contains("name")));
        let long = "x".repeat(5000);
        assert!(page.sample("app_odd", &[("name", &long)], 1).await.is_err());
        page.sample("app_odd", &[("name", &"after")], f64::INFINITY).await
    })
    .await
}

kio::pool! {
    struct Told;
    workers = 2,
    pin = off,
    listen = { "127.0.0.1:0" => page, "127.0.0.2:0" => echo },
    tasks = { page as metrics: 2, kio::metrics::serve_on: 1 },
    conns = 64,
    buffers = 64 x 4 KiB,
    files = 2,
}

/// Where echo listens: who listens on what was asked for joins, and is told the port.
fn echo_addr(pool: &kio::Handle<Told>) -> SocketAddr {
    let join = async |worker: kio::Worker<Told>| {
        worker.listen("127.0.0.2:0").await.and_then(|listener| listener.local_addr())
    };
    pool.on(0, join).unwrap().unwrap()
}

/// What a scraper gets: the head, and the body with its chunks put together.
fn get(addr: SocketAddr, request: &str) -> (String, String) {
    let mut scraper = client(addr);
    scraper.write_all(request.as_bytes()).unwrap();
    let mut all = String::new();
    scraper.read_to_string(&mut all).unwrap();
    let (head, mut rest) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {all:?}"));
    if !head.contains("Transfer-Encoding: chunked") || request.starts_with("HEAD") {
        return (head.into(), rest.into());
    }
    let mut body = String::new();
    loop {
        let (len, more) = rest.split_once("\r\n").expect("a chunk's length");
        let len = usize::from_str_radix(len, 16).expect("a hexadecimal number");
        assert_eq!(&more[len..len + 2], "\r\n");
        body.push_str(&more[..len]);
        rest = &more[len + 2..];
        if len == 0 {
            assert_eq!(rest, "", "something follows the last chunk");
            return (head.into(), body);
        }
    }
}

fn scrape(addr: SocketAddr) -> Page {
    let (head, body) = get(addr, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    Page::parse(&body)
}

type Labels = BTreeMap<String, String>;

/// A page that was read as strictly as its format can be.
struct Page {
    kinds: BTreeMap<String, String>,
    samples: Vec<(String, Labels, f64)>,
}

impl Page {
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let (mut kinds, mut samples) = (BTreeMap::new(), Vec::new());
        let (mut family, mut helped) = (String::new(), String::new());
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help");
                assert!(is_name(name) && !help.trim().is_empty(), "{line}");
                unescape(help, false);
                helped = name.into();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, helped, "TYPE follows its HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(kinds.insert(name.into(), kind.into()).is_none(), "twice: {line}");
                family = name.into();
            } else {
                let (name, labels, value) = sample(line);
                let of_family = name == family
                    || (kinds[&family] == "histogram"
                        && ["_bucket", "_sum", "_count"]
                            .map(|end| family.clone() + end)
                            .contains(&name));
                assert!(of_family, "{line} stands in the family {family}");
                assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
                samples.push((name, labels, value));
            }
        }
        Self { kinds, samples }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Labels, f64)> {
        let of = self.samples.iter().filter(move |(other, ..)| other == name);
        of.map(|(_, labels, value)| (labels, *value))
    }

    /// The sum over all workers of those with that label.
    fn sum(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        assert!(self.all(name).next().is_some(), "no {name}");
        let is = |labels: &Labels| label.is_none_or(|(key, value)| labels[key] == value);
        self.all(name).filter(|(labels, _)| is(labels)).map(|(_, value)| value).sum()
    }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The text without its escapes; there are three, in a help two.
fn unescape(text: &str, quotes: bool) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quotes) {
            ('\\', _) => match (chars.next(), quotes) {
                (Some('\\'), _) => plain.push('\\'),
                (Some('n'), _) => plain.push('\n'),
                (Some('"'), true) => plain.push('"'),
                (other, _) => panic!("an escape of {other:?} in {text:?}"),
            },
            ('"', true) => panic!("a bare quote in {text:?}"),
            _ => plain.push(c),
        }
    }
    plain
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, value) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label) && !label.contains(':'), "{line}");
            // Up to a quote that is not escaped.
            let mut escaped = false;
            let end = value.char_indices().find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            });
            let (end, _) = end.expect("the label's end");
            assert!(labels.insert(label.into(), unescape(&value[..end], true)).is_none(), "{line}");
            rest = &value[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect("the end of the labels");
    }
    let value = rest.strip_prefix(' ').expect("one space before the value");
    let value = match value {
        "+Inf" | "inf" => f64::INFINITY,
        number => number.parse().unwrap_or_else(|_| panic!("{line}")),
    };
    (name.into(), labels, value)
}

#[test]
fn the_page_is_strictly_in_form_and_tells_of_every_worker() {
    let pool = Told::start_when_free().unwrap();
    let page = scrape(pool.local_addr().unwrap());
    assert_eq!(page.sum("kio_workers", None), 2.0);
    for (name, kind) in &page.kinds {
        let name = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let workers: BTreeSet<_> = page.all(&name).filter_map(|(l, _)| l.get("worker")).collect();
        let single = ["kio_workers", "app_odd"].contains(&name.as_str());
        assert_eq!(workers.len(), if single { 0 } else { 2 }, "{name}");
    }
    let sizes = |name, label, of| page.sum(name, Some((label, of))) / 2.0;
    assert_eq!(sizes("kio_task_slots", "task", "metrics"), 2.0);
    assert_eq!(sizes("kio_task_slots", "task", "spawn"), 64.0);
    assert_eq!(sizes("kio_table_size", "table", "buffers"), 64.0);
    assert_eq!(sizes("kio_table_size", "table", "sockets"), 64.0);
    assert_eq!(sizes("kio_table_size", "table", "files"), 2.0);
    assert_eq!(page.sum("kio_task_slots_used", Some(("task", "metrics"))), 3.0, "and two reserved");
    assert!(page.sum("kio_cpu_seconds_total", None) > 0.0);
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn what_a_user_adds_is_escaped_and_a_bad_name_refused() {
    let pool = Told::start_when_free().unwrap();
    let page = scrape(pool.local_addr().unwrap());
    let names: Vec<_> = page.all("app_odd").map(|(labels, _)| labels.get("name")).collect();
    assert_eq!(names[0].unwrap(), "\"quoted\"\\\nend");
    assert_eq!((names.len(), names[1], names[2].unwrap().as_str()), (3, None, "after"));
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn histograms_rise_to_their_count() {
    let pool = Told::start_when_free().unwrap();
    let page = scrape(pool.local_addr().unwrap());
    for worker in ["0", "1"] {
        let mine = |(labels, value): (&Labels, f64)| {
            let le = labels
                .get("le")
                .map(|le| if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() });
            (labels["worker"] == worker).then_some((le, value))
        };
        let buckets: Vec<_> = page.all("kio_turn_seconds_bucket").filter_map(mine).collect();
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{buckets:?}");
        let last = buckets.last().unwrap();
        let count = page.all("kio_turn_seconds_count").find_map(mine).unwrap().1;
        assert_eq!((last.0, last.1), (Some(f64::INFINITY), count));
        let sum = page.all("kio_turn_seconds_sum").find_map(mine).unwrap().1;
        assert_eq!(sum > 0.0, count > 0.0);
    }
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn scrapes_under_load_are_whole_and_counters_only_rise() {
    let pool = Told::start_when_free().unwrap();
    let (addr, echo) = (pool.local_addr().unwrap(), echo_addr(&pool));
    let bytes = pattern(20_000);
    let rounds = scaled(200);
    thread::scope(|scope| {
        let loads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut one = client(echo);
                    let mut got = vec![0; bytes.len()];
                    for _ in 0..rounds {
                        one.write_all(&bytes).unwrap();
                        one.read_exact(&mut got).unwrap();
                        assert!(got == bytes);
                    }
                })
            })
            .collect();
        let mut last: BTreeMap<(String, Labels), f64> = BTreeMap::new();
        while !loads.iter().all(thread::ScopedJoinHandle::is_finished) {
            let page = scrape(addr);
            for (name, labels, value) in page.samples {
                let rises = name.ends_with("_total") || name.ends_with("_peak");
                let before = last.insert((name.clone(), labels.clone()), value);
                assert!(!rises || before.is_none_or(|before| before <= value), "{name} {labels:?}");
            }
        }
    });
    let page = scrape(addr);
    let moved = (4 * rounds * bytes.len()) as f64;
    assert!(page.sum("kio_received_bytes_total", None) >= moved);
    assert!(page.sum("kio_sent_bytes_total", None) >= moved);
    assert!(page.sum("kio_ops_total", Some(("op", "send"))) >= rounds as f64);
    assert_eq!(page.sum("kio_overflows_total", None), 0.0);
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn a_request_is_refused_where_it_is_none() {
    let pool = Told::start_when_free().unwrap();
    let addr = pool.local_addr().unwrap();
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
        ("GET /metrics HTTP/9\r\n\r\n", "400"),
        (&format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(5000)), "431"),
    ] {
        let (head, _) = get(addr, request);
        assert_eq!(head.split(' ').nth(1), Some(status), "{request:.40}");
    }
    let (head, body) = get(addr, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.contains(" 200 ") && body.is_empty());
    // An older one reads until the end.
    let (head, body) = get(addr, "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(!head.contains("chunked"), "{head}");
    Page::parse(&body);
    // In bytes, one by one.
    let mut scraper = client(addr);
    for byte in b"GET /metrics HTTP/1.0\r\n\r\n" {
        scraper.write_all(&[*byte]).unwrap();
    }
    let mut all = String::new();
    scraper.read_to_string(&mut all).unwrap();
    Page::parse(all.split_once("\r\n\r\n").unwrap().1);
    pool.stop();
    pool.join().unwrap();
}

#[test]
fn scrapers_that_say_nothing_hold_their_places_and_no_buffer() {
    let pool = Told::start_when_free().unwrap();
    let (addr, echo) = (pool.local_addr().unwrap(), echo_addr(&pool));
    // More than there are places, on both workers; half say a part of a request.
    let mut silent: Vec<_> = (0..20).map(|_| client(addr)).collect();
    silent.iter_mut().take(10).for_each(|one| one.write_all(b"GET /met").unwrap());
    let held = |pool: &kio::Handle<Told>| -> (u64, u64) {
        let all = || (0..2).flat_map(|worker| pool.usage(worker));
        let of = |name| all().filter(|usage| usage.name == name).map(|usage| usage.used).sum();
        (of("metrics"), of("buffers"))
    };
    let began = Instant::now();
    while pool.stats().map(|stats| stats.task_waits).sum::<u64>() == 0 {
        assert!(began.elapsed() < HANG);
        thread::yield_now();
    }
    let mut one = client(echo);
    for _ in 0..scaled(100) {
        one.write_all(b"still served").unwrap();
        one.read_exact(&mut [0; 12]).unwrap();
    }
    let (places, buffers) = held(&pool);
    assert!(places <= 4 && buffers <= 4 + 1, "{places} places, {buffers} buffers");
    // Some end their side, some reset.
    silent.drain(..10).for_each(|one| drop(one.shutdown(Shutdown::Both)));
    drop(silent);
    scrape(addr);
    pool.stop();
    pool.join().unwrap();
}

kio::pool! {
    struct Long;
    pin = off,
    listen = { "127.0.0.1:0" => endless },
    tasks = { endless: 2 },
    conns = 8,
    buffers = 16 x 4 KiB,
}

/// A page that ends only with its scraper, or its time.
async fn endless(conn: TcpStream) -> kio::Result<()> {
    serve_with(conn, async |page| {
        page.family("app_lines_total", Kind::Counter, "Lines.").await?;
        for line in 0u64.. {
            page.sample("app_lines_total", &[("line", &line)], line).await?;
        }
        Ok(())
    })
    .await
}

#[test]
fn a_scraper_that_reads_nothing_holds_one_buffer_however_long_the_page() {
    let pool = Long::start_when_free().unwrap();
    let addr = pool.local_addr().unwrap();
    let mut lazy = client(addr);
    lazy.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let of = |name: &str| pool.usage(0).find(|usage| usage.name == name).expect("it is there");
    let began = Instant::now();
    // Until the sockets are full: it sleeps in its send.
    let mut sent = (0, 0);
    while sent.0 == 0 || sent.1 < 1000 {
        assert!(began.elapsed() < HANG);
        let now = pool.stats().map(|stats| stats.sent).sum();
        sent = if now == sent.0 { (now, sent.1 + 1) } else { (now, 0) };
        assert!(of("buffers").peak <= 2, "one to write, or one that is sent: {:?}", of("buffers"));
        thread::yield_now();
    }
    // One that reads has its page meanwhile, or what he wants of it.
    let mut eager = client(addr);
    eager.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    eager.read_exact(&mut [0; 100_000]).unwrap();
    drop((lazy, eager));
    while pool.stats().any(|stats| stats.open > 0) {
        assert!(began.elapsed() < HANG);
        thread::yield_now();
    }
    assert!(of("buffers").peak <= 4 && of("endless").peak == 2);
    pool.stop();
    pool.join().unwrap();
}

kio::pool! {
    struct Alone;
    pin = off,
    entry = alone,
    tasks = { kio::metrics::serve_on: 1 },
    conns = 4,
    buffers = 2 x 4 KiB,
}

async fn alone(core: kio::Core) -> kio::Result<()> {
    let served = core.spawn(move || kio::metrics::serve_on(core, ([127, 0, 0, 1], 0).into()))?;
    drop(served);
    Ok(())
}

#[test]
fn a_silent_scraper_is_cut_off_and_the_next_one_served_with_two_buffers_in_all() {
    let pool = Alone::start_when_free().unwrap();
    let addr = pool.local_addr().unwrap();
    let mut silent = client(addr);
    silent.write_all(b"GET").unwrap();
    // Behind it in the backlog, until its ten seconds are over.
    let page = scrape(addr);
    assert_eq!(page.sum("kio_workers", None), 1.0);
    assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0, "cut off");
    pool.stop();
    pool.join().unwrap();
}

/// A stream whose last words find no room, as of TLS whose peer reads no more.
struct Stuck(TcpStream);

impl RecvHalf for Stuck {
    fn core(&self) -> kio::Core {
        self.0.core()
    }
    async fn recv(&mut self) -> kio::Result<Option<Buf>> {
        self.0.recv().await
    }
    async fn recv_idle(&mut self) -> kio::Result<Option<Buf>> {
        self.0.recv_idle().await
    }
    async fn recv_into(&mut self, into: &mut BufMut) -> kio::Result<usize> {
        self.0.recv_into(into).await
    }
    async fn recv_idle_into(&mut self, into: &mut BufMut) -> kio::Result<usize> {
        self.0.recv_idle_into(into).await
    }
}

impl SendHalf for Stuck {
    fn core(&self) -> kio::Core {
        self.0.core()
    }
    async fn push(&mut self, out: impl Into<Out>) -> kio::Result<()> {
        self.0.push(out).await
    }
    fn try_push(&mut self, out: impl Into<Out>) -> Result<(), Out> {
        self.0.try_push(out)
    }
    async fn push_copy(&mut self, bytes: &[u8]) -> kio::Result<()> {
        self.0.push_copy(bytes).await
    }
    async fn flush(&mut self) -> kio::Result<()> {
        self.0.flush().await
    }
    async fn send(&mut self, out: impl Into<Out>) -> kio::Result<()> {
        self.0.send(out).await
    }
    async fn send_copy(&mut self, bytes: &[u8]) -> kio::Result<()> {
        self.0.send_copy(bytes).await
    }
    async fn shutdown(&mut self) -> kio::Result<()> {
        std::future::pending().await
    }
}

impl Stream for Stuck {
    type Recv<'a> = TcpRecvHalf<'a>;
    type Send<'a> = TcpSendHalf<'a>;
    fn split(&mut self) -> (TcpRecvHalf<'_>, TcpSendHalf<'_>) {
        self.0.split()
    }
    async fn close(self) -> kio::Result<()> {
        self.0.close().await
    }
}

async fn stuck(conn: TcpStream) -> kio::Result<()> {
    serve_with(Stuck(conn), async |_| Ok(())).await
}

kio::pool! {
    struct Sticks;
    workers = 1,
    pin = off,
    listen = { "127.0.0.1:0" => stuck },
    tasks = { stuck: 1 },
    conns = 4,
    buffers = 16 x 4 KiB,
}

#[test]
fn a_scraper_that_takes_no_last_word_is_cut_off() {
    let pool = Sticks::start_when_free().unwrap();
    let addr = pool.local_addr().unwrap();
    for _ in 0..2 {
        let (head, _) = get(addr, "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    }
    pool.stop();
    pool.join().unwrap();
}
