//! The comparisons of the page: each a few servers, driven in turn at the extent's pace.

use super::Extent;
use crate::Result;
use crate::compare;
use crate::driven::Dir;
use crate::load::Plan;
#[cfg(feature = "tls")]
use crate::load::Tls;
use crate::relay::{self, What};
use crate::series::Series;
use crate::server::{Kind, Spec};
use crate::workload::Workload;

/// The connections of echo, of TLS, and of what is counted.
pub(super) const CONNECTIONS: u32 = 50;

/// One comparison.
pub(super) struct Cell {
    /// What was asked, in a few words.
    pub title: String,
    /// Where it is on the axis of its plots.
    pub place: String,
    /// What is counted.
    pub op: Op,
    /// Whose figures the others' are divided by.
    pub base: &'static str,
    pub series: Result<Vec<Series>>,
    /// What is not here, and why.
    pub skipped: Vec<(String, String)>,
}

/// What is counted, and how its columns are headed.
pub(super) struct Op {
    pub rate: &'static str,
    pub cpu: &'static str,
    /// From microseconds of CPU an operation to what is shown.
    pub factor: f64,
}

const REQUEST: Op = Op { rate: "requests/s", cpu: "CPU us/request", factor: 1.0 };
const MIB: Op = Op { rate: "MiB/s", cpu: "CPU ms/GiB", factor: 1.024 };
#[cfg(feature = "tls")]
const HANDSHAKE: Op = Op { rate: "handshakes/s", cpu: "CPU us/handshake", factor: 1.0 };

/// The servers that are compared: the yardstick, kio, the others that start here, and the yardstick
/// again; then those that do not, and why.
pub(super) fn servers() -> (Vec<Spec>, Vec<(String, String)>) {
    let others = Kind::compared().filter(|kind| *kind != Kind::Limit);
    let (mut specs, mut skipped) = (vec![], vec![]);
    for kind in std::iter::once(Kind::Limit).chain(others) {
        let spec = Spec { kind, spin: 0 };
        let stopped = crate::child::Server::start(spec, Workload::Http).and_then(|s| s.stop());
        match stopped {
            Ok(_) => specs.push(spec),
            Err(why) => skipped.push((spec.to_string(), why.to_string())),
        }
    }
    (specs, skipped)
}

/// http with so many connections.
pub(super) fn http(extent: &Extent, specs: &[Spec], connections: u32) -> Cell {
    let plural = if connections == 1 { "" } else { "s" };
    let title = format!("http, {connections} connection{plural}");
    compared(extent, specs, title, connections.to_string(), &Plan::http(connections))
}

/// echo of this size, so many at once.
pub(super) fn echo(extent: &Extent, specs: &[Spec], size: usize, depth: u32) -> Cell {
    let plan = Plan { workload: Workload::Echo, size, pipeline: depth, ..Plan::http(CONNECTIONS) };
    let bytes = if size < 1024 { format!("{size} B") } else { format!("{} KiB", size / 1024) };
    let title = format!("echo of {bytes}, {depth} at once, {CONNECTIONS} connections");
    compared(extent, specs, title, format!("{bytes} x {depth}"), &plan)
}

/// Servers beside `limit`, which is entered again at the end: what it differs by is chance.
fn compared(extent: &Extent, specs: &[Spec], title: String, place: String, plan: &Plan) -> Cell {
    eprintln!("{title} ..");
    let specs: Vec<Spec> = specs.iter().chain(&specs[..1]).copied().collect();
    let series = compare::measure(&specs, plan, extent.pace);
    Cell { title, place, op: REQUEST, base: "limit", series, skipped: vec![] }
}

/// The relays that are here, the yardstick first; then those that are not, and why.
pub(super) fn relays() -> (Vec<relay::Entry>, Vec<(String, String)>) {
    let (mut entries, mut skipped) = (vec![], vec![]);
    for name in relay::ENTRIES {
        match relay::Entry::find(name, "haproxy", "nginx") {
            Ok(entry) => entries.push(entry),
            Err(why) => skipped.push((name.to_string(), why.to_string())),
        }
    }
    (entries, skipped)
}

/// Small requests through a relay, and bytes through it on one and on many streams.
pub(super) fn proxy(extent: &Extent, dir: &Dir) -> Vec<Cell> {
    let (entries, skipped) = relays();
    let entries: Vec<&relay::Entry> = entries.iter().chain(entries.first()).collect();
    let cells = [(What::Requests, 50), (What::Bulk, 1), (What::Bulk, 50)];
    let measured = cells.map(|(what, streams)| {
        let (title, place, op) = match (what, streams) {
            (What::Requests, n) => {
                (format!("proxy requests, {n} connections"), "requests", REQUEST)
            }
            (What::Bulk, 1) => ("proxy bulk, one stream".into(), "bulk x 1", MIB),
            (What::Bulk, n) => (format!("proxy bulk, {n} streams"), "bulk x 50", MIB),
        };
        eprintln!("{title} ..");
        let relayed = relay::measure(what, streams, &entries, extent.pace, dir.path());
        let series = relayed.map(|relayed| relayed.series);
        let skipped = skipped.clone();
        Cell { title, place: place.into(), op, base: "limit", series, skipped }
    });
    measured.into()
}

/// kio with TLS in user space beside tokio-rustls; kio again shows chance.
#[cfg(feature = "tls")]
pub(super) fn tls(extent: &Extent) -> Vec<Cell> {
    let specs = [Kind::KioTls, Kind::TokioRustls, Kind::KioTls];
    let specs = specs.map(|kind| Spec { kind, spin: 0 });
    let http = Plan::http(CONNECTIONS);
    let shake = |resume| {
        let tls = Tls { resume, only_shake: true };
        Plan { workload: Workload::Close, tls, ..http.clone() }
    };
    let cells = [
        ("https", "https", REQUEST, http.clone()),
        ("full handshakes", "full", HANDSHAKE, shake(false)),
        ("resumed handshakes", "resumed", HANDSHAKE, shake(true)),
    ];
    let measured = cells.map(|(what, place, op, plan)| {
        let title = format!("{what}, {CONNECTIONS} connections");
        eprintln!("{title} ..");
        let series = compare::measure(&specs, &plan, extent.pace);
        Cell { title, place: place.into(), op, base: "tokio-rustls", series, skipped: vec![] }
    });
    measured.into()
}

/// Built without TLS.
#[cfg(not(feature = "tls"))]
pub(super) fn tls(_: &Extent) -> Vec<Cell> {
    let why = "built without `--features tls`".to_string();
    let (title, place) = ("https and handshakes".to_string(), String::new());
    let (op, base, series) = (REQUEST, "tokio-rustls", Err("nothing to compare".into()));
    vec![Cell { title, place, op, base, series, skipped: vec![("kio-tls".into(), why)] }]
}
