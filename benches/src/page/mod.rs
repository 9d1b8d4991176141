//! `page`: everything measured side by side in one go, and written as a page with plots.
//!
//! It runs in a network namespace of its own, so that the host's congestion control and filters are not
//! measured. A cell that cannot be measured is told on the page, and the others are.

mod plot;
mod write;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::Args;
use crate::compare::{self, Series};
use crate::count::{self, Counted};
use crate::driven::{Dir, Pace, Rounds};
use crate::files;
use crate::idle::{self, Cost};
use crate::load::Plan;
use crate::netns;
use crate::server::{Kind, Spec};
use crate::stats::Rng;
use crate::workload::Workload;

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

/// Half an hour: what is shown.
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
    pace: Pace { rounds: 6, starts: 2, slice: Duration::from_millis(25) },
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

/// The connections of echo, and of what is counted.
const CONNECTIONS: u32 = 50;

/// One comparison.
struct Cell {
    /// What was asked, in a few words.
    title: String,
    /// Where it is on the axis of its plots.
    place: String,
    series: Result<Vec<Series>>,
}

/// All that was measured.
struct Page {
    extent: Extent,
    /// Whether the network was of its own; else why not.
    network: Result<()>,
    http: Vec<Cell>,
    echo: Vec<Cell>,
    idle: Vec<(Spec, Result<Cost>)>,
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
    let parts = ["http", "echo", "idle", "count", "files"];
    let wanted: Vec<&str> =
        only.as_deref().map_or(parts.to_vec(), |list| list.split(',').collect());
    if let Some(unknown) = wanted.iter().find(|part| !parts.contains(part)) {
        return Err(format!("unknown part `{unknown}`: {}", parts.join(", ")).into());
    }

    let began = Instant::now();
    let wants = |part: &str| wanted.contains(&part);
    let mut page = Page {
        extent,
        network: netns::enter(),
        http: vec![],
        echo: vec![],
        idle: vec![],
        counted: vec![],
        files: None,
        took: Duration::ZERO,
    };
    if let Err(why) = &page.network {
        eprintln!("measured in the host's network: {why}");
    }
    if wants("http") {
        page.http = extent.connections.iter().map(|n| http(extent, *n)).collect();
    }
    if wants("echo") {
        let cells = extent.depths.iter().flat_map(|d| extent.sizes.iter().map(move |s| (*s, *d)));
        page.echo = cells.map(|(size, depth)| echo(extent, size, depth)).collect();
    }
    if wants("idle") {
        page.idle = idle_cells(extent);
    }
    if wants("count") {
        page.counted = counts(extent);
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

/// Beside this file, in the repository.
fn default_out() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("page")
}

/// The servers that are compared: the yardstick, kio, the others, and the yardstick again.
fn servers() -> Vec<Spec> {
    let spec = |kind| Spec { kind, spin: 0 };
    let others = Kind::compared().filter(|kind| *kind != Kind::Limit);
    std::iter::once(Kind::Limit).chain(others).chain([Kind::Limit]).map(spec).collect()
}

fn http(extent: Extent, connections: u32) -> Cell {
    let plan = Plan::http(connections);
    cell(
        extent,
        format!("http, {} connection{}", connections, if connections == 1 { "" } else { "s" }),
        connections.to_string(),
        &plan,
    )
}

fn echo(extent: Extent, size: usize, depth: u32) -> Cell {
    let plan = Plan { workload: Workload::Echo, size, pipeline: depth, ..Plan::http(CONNECTIONS) };
    let bytes = if size < 1024 { format!("{size} B") } else { format!("{} KiB", size / 1024) };
    let title = format!("echo of {bytes}, {depth} at once, {CONNECTIONS} connections");
    cell(extent, title, format!("{bytes} x {depth}"), &plan)
}

fn cell(extent: Extent, title: String, place: String, plan: &Plan) -> Cell {
    eprintln!("{title} ..");
    let (specs, Pace { rounds, starts, slice }) = (servers(), extent.pace);
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    let mut all = Series::all(&specs);
    let measured = (0..starts).try_for_each(|_| {
        compare::measure(&specs, plan, rounds / starts, slice, &mut rng, &mut all)
    });
    Cell { title, place, series: measured.map(|()| all) }
}

fn idle_cells(extent: Extent) -> Vec<(Spec, Result<Cost>)> {
    let once = servers().len() - 1;
    let measure = |spec| {
        eprintln!("{} idle connections of {spec} ..", extent.idle);
        (spec, idle::measure(spec, extent.idle, Some(extent.pace.slice)))
    };
    servers().into_iter().take(once).map(measure).collect()
}

fn counts(extent: Extent) -> Vec<(Spec, Result<Counted>)> {
    let once = servers().len() - 1;
    let plan = Plan::http(CONNECTIONS);
    let counted = |spec| {
        eprintln!("counts of {spec} ..");
        (spec, count::each(spec, &plan, extent.counted))
    };
    servers().into_iter().take(once).map(counted).collect()
}
