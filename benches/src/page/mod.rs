//! `page`: everything measured side by side in one go, and written as a page with plots.
//!
//! It runs in a network namespace of its own, so that the host's congestion control and filters are not
//! measured. What cannot be measured is told on the page, and the rest is.

mod cells;
mod plot;
mod rest;
mod summary;
mod tables;
mod write;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::Args;
use crate::child::LOAD_CPU;
use crate::count::{self, Counted};
use crate::driven::{Dir, Pace, Rounds};
use crate::files;
use crate::foreign;
use crate::idle::{self, Cost};
use crate::load::Plan;
use crate::netns;
use crate::server::{Kind, Spec};
use crate::sys;
use cells::{CONNECTIONS, Cell};

/// How much is measured.
#[derive(Clone, Copy)]
struct Extent {
    name: &'static str,
    pace: Pace,
    idle: usize,
    counted: u64,
    mib: u64,
    connections: &'static [u32],
    sizes: &'static [usize],
    depths: &'static [u32],
}

const ALL_CONNECTIONS: &[u32] = &[1, 10, 50, 200, 800];
const ALL_SIZES: &[usize] = &[64, 1024, 16 * 1024];
const ALL_DEPTHS: &[u32] = &[1, 16];

/// A quarter of an hour: what is shown.
const FULL: Extent = Extent {
    name: "full",
    pace: Pace { rounds: 60, starts: 6, slice: Duration::from_millis(100) },
    idle: 10_000,
    counted: 200_000,
    mib: 1024,
    connections: ALL_CONNECTIONS,
    sizes: ALL_SIZES,
    depths: ALL_DEPTHS,
};

/// Under two minutes: all cells, with wide intervals.
const QUICK: Extent = Extent {
    name: "quick",
    pace: Pace { rounds: 8, starts: 2, slice: Duration::from_millis(25) },
    idle: 2_000,
    counted: 20_000,
    mib: 128,
    ..FULL
};

/// Seconds: whether it works.
const TINY: Extent = Extent {
    name: "tiny",
    pace: Pace { rounds: 2, starts: 1, slice: Duration::from_millis(10) },
    idle: 200,
    counted: 2_000,
    mib: 16,
    connections: &[1, 50],
    sizes: &[64, 16 * 1024],
    depths: ALL_DEPTHS,
};

const PARTS: [&str; 7] = ["http", "echo", "proxy", "tls", "count", "idle", "files"];

/// All that was measured.
struct Page {
    extent: Extent,
    /// Whether the network was of its own; else why not.
    network: Result<()>,
    /// Servers that do not start here, and why.
    skipped: Vec<(String, String)>,
    http: Vec<Cell>,
    echo: Vec<Cell>,
    proxy: Vec<Cell>,
    tls: Vec<Cell>,
    idle: Vec<(String, Result<Cost>)>,
    counted: Vec<(Spec, Result<Counted>)>,
    files: Option<Result<Vec<Rounds>>>,
    took: Duration,
}

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let extent = match (args.flag("--quick"), args.flag("--tiny")) {
        (_, true) => TINY,
        (true, false) => QUICK,
        (false, false) => FULL,
    };
    let only: Option<String> = args.find("--only")?;
    let out = args.get("--out", default_out().display().to_string())?;
    let dir = Dir::new(&mut args)?;
    args.end()?;
    let wanted: Vec<&str> =
        only.as_deref().map_or(PARTS.to_vec(), |list| list.split(',').collect());
    if let Some(unknown) = wanted.iter().find(|part| !PARTS.contains(part)) {
        return Err(format!("unknown part `{unknown}`: {}", PARTS.join(", ")).into());
    }

    let began = Instant::now();
    sys::pin(LOAD_CPU)?;
    let network = netns::enter();
    if let Err(why) = &network {
        eprintln!("measured in the host's network: {why}");
    }
    let (specs, skipped) = cells::servers();
    said_missing(&skipped);
    if specs.first().is_none_or(|spec| spec.kind != Kind::Limit) {
        return Err("without the yardstick there is nothing to compare with".into());
    }
    let wants = |part: &str| wanted.contains(&part);
    let mut page = Page {
        extent,
        network,
        skipped,
        http: vec![],
        echo: vec![],
        proxy: vec![],
        tls: vec![],
        idle: vec![],
        counted: vec![],
        files: None,
        took: Duration::ZERO,
    };
    if wants("http") {
        let cells = extent.connections.iter();
        page.http = cells.map(|n| cells::http(&extent, &specs, *n)).collect();
    }
    if wants("echo") {
        let cells = extent.depths.iter().flat_map(|d| extent.sizes.iter().map(move |s| (*s, *d)));
        page.echo = cells.map(|(size, depth)| cells::echo(&extent, &specs, size, depth)).collect();
    }
    if wants("proxy") {
        page.proxy = cells::proxy(&extent, &dir);
    }
    if wants("tls") {
        page.tls = cells::tls(&extent);
    }
    if wants("idle") {
        page.idle = idle_cells(extent, &specs);
    }
    if wants("count") {
        page.counted = counts(extent, &specs);
    }
    if wants("files") {
        eprintln!("files ..");
        page.files = Some(files::cached(&dir, extent.mib, extent.pace));
    }
    page.took = began.elapsed();
    write::page(&page, Path::new(&out))?;
    println!("{out}: written in {} s", page.took.as_secs());
    Ok(())
}

/// Says before anything is measured what will not be, while there is time to install it.
fn said_missing(servers: &[(String, String)]) {
    let mut missing = servers.to_vec();
    missing.extend(cells::relays().1);
    missing.extend(files::missing());
    if foreign::find("perf").is_none() {
        let why = "no `perf` here (`apt install linux-perf`)";
        missing.push(("system calls a request".into(), why.into()));
    }
    missing.iter().for_each(|(name, why)| eprintln!("skipped: {name}: {why}"));
}

/// Beside this file, in the repository.
fn default_out() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("page")
}

/// The last is the first again: what the two differ by is chance.
fn idle_cells(extent: Extent, specs: &[Spec]) -> Vec<(String, Result<Cost>)> {
    let measure = |(nth, spec): (usize, &Spec)| {
        eprintln!("{} idle connections of {spec} ..", extent.idle);
        let name = if nth < specs.len() { spec.to_string() } else { format!("{spec}#2") };
        (name, idle::measure(*spec, extent.idle, Some(extent.pace.slice)))
    };
    specs.iter().chain(&specs[..1]).enumerate().map(measure).collect()
}

fn counts(extent: Extent, specs: &[Spec]) -> Vec<(Spec, Result<Counted>)> {
    let plan = Plan::http(CONNECTIONS);
    let counted = |spec: &Spec| {
        eprintln!("counts of {spec} ..");
        (*spec, count::each(*spec, &plan, extent.counted))
    };
    specs.iter().map(counted).collect()
}
