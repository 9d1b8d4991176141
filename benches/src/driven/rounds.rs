//! Children that work by the piece, in turn: how long, what each took in its rounds, and the table of it.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Driven, Took};
use crate::Result;
use crate::stats::{self, Rng};

/// One entry's rounds.
pub struct Rounds {
    /// Its name; the second of two alike ends in `#2`.
    pub name: String,
    /// Operations a second, round by round.
    pub rate: Vec<f64>,
    /// CPU time an operation in microseconds, round by round.
    pub cpu: Vec<f64>,
    /// Operations in all.
    pub ops: u64,
    /// Allocations in all, where they are counted.
    pub allocations: Option<u64>,
}

impl Rounds {
    /// One, empty, for each of `names`.
    pub fn all(names: &[&str]) -> Vec<Self> {
        let nth = |i: usize| names[..=i].iter().filter(|name| **name == names[i]).count();
        let name = |i: usize| match nth(i) {
            1 => names[i].to_string(),
            nth => format!("{}#{nth}", names[i]),
        };
        let empty =
            |i| Self { name: name(i), rate: vec![], cpu: vec![], ops: 0, allocations: Some(0) };
        (0..names.len()).map(empty).collect()
    }

    /// Adds a round.
    pub fn add(&mut self, ops: u64, took: Took) {
        self.rate.push(ops as f64 / took.wall.as_secs_f64());
        self.cpu.push(took.cpu.as_secs_f64() * 1e6 / ops as f64);
        self.ops += ops;
        self.allocations = self.allocations.zip(took.allocations).map(|(all, made)| all + made);
    }

    /// Allocations an operation, to be shown.
    pub fn made(&self) -> String {
        let made = self.allocations.map(|made| made as f64 / self.ops as f64);
        made.map_or("-".into(), |made| format!("{made:.4}"))
    }
}

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Rounds in all, and how often the children are started anew among them.
    pub rounds: usize,
    /// Starts.
    pub starts: usize,
    /// About how long a slice is.
    pub slice: Duration,
}

impl Pace {
    /// Reads `--quick`, `--rounds`, `--starts` and `--slice-ms`.
    pub fn read(args: &mut crate::args::Args) -> Result<Self> {
        let quick = args.flag("--quick");
        let pace = Self {
            rounds: args.get("--rounds", if quick { 15 } else { 60 })?,
            starts: args.get("--starts", if quick { 3 } else { 6 })?,
            slice: Duration::from_millis(args.get("--slice-ms", 100)?),
        };
        if pace.starts == 0 || pace.rounds == 0 || !pace.rounds.is_multiple_of(pace.starts) {
            return Err("--rounds is a multiple of --starts, and neither is 0".into());
        }
        Ok(pace)
    }
}

/// Starts every child with `start`, drives them in turn, in random order, and ends them; as often as
/// there are starts. The first round says how many operations a slice of each is, and is not counted.
pub fn interleave(
    all: &mut [Rounds],
    pace: Pace,
    first: u64,
    start: impl Fn(usize) -> Result<Driven>,
) -> Result<()> {
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    for _ in 0..pace.starts {
        let mut children = (0..all.len()).map(&start).collect::<Result<Vec<_>>>()?;
        let mut counts = Vec::new();
        for child in &mut children {
            let took = child.run(first)?;
            let slice = first as f64 * pace.slice.as_secs_f64() / took.wall.as_secs_f64();
            counts.push((slice as u64).max(1));
        }
        let mut order: Vec<usize> = (0..children.len()).collect();
        for _ in 0..pace.rounds / pace.starts {
            rng.shuffle(&mut order);
            for &i in &order {
                let took = children[i].run(counts[i])?;
                all[i].add(counts[i], took);
            }
        }
        children.into_iter().try_for_each(Driven::end)?;
    }
    Ok(())
}

/// The figures of each entry, then the ratios to each of `bases` that is among them.
pub fn table(all: &[Rounds], bases: &[&str], starts: usize, op: &str) -> String {
    let mut out = String::new();
    let width = all.iter().map(|rounds| rounds.name.len()).max().unwrap_or(0).max(12);
    let _ = writeln!(
        out,
        "{:width$} {:>12} {:>14} {:>14}",
        "",
        format!("{op}s/s"),
        format!("CPU us/{op}"),
        format!("allocs/{op}")
    );
    for rounds in all {
        let (rate, cpu) = (stats::median(&rounds.rate), stats::median(&rounds.cpu));
        let made = rounds.made();
        let _ = writeln!(out, "{:width$} {rate:>12.0} {cpu:>14.3} {made:>14}", rounds.name);
    }
    for name in bases {
        let Some(base) = all.iter().find(|rounds| rounds.name == *name) else { continue };
        let _ = writeln!(
            out,
            "\n{:width$} {:>24} {:>26} {:>26}",
            format!("/ {name}"),
            format!("{op}s/s"),
            format!("CPU/{op}"),
            "CPU us more"
        );
        for rounds in all.iter().filter(|rounds| rounds.name != base.name) {
            let _ = write!(out, "{:width$}", rounds.name);
            let more = rounds.cpu.iter().zip(&base.cpu).map(|(mine, its)| mine - its);
            let compared = [
                stats::ratios(&rounds.rate, &base.rate),
                stats::ratios(&rounds.cpu, &base.cpu),
                more.collect(),
            ];
            for values in compared {
                let e = stats::estimate(&values, starts);
                let _ = write!(out, "    {:.3} [{:.3}, {:.3}]", e.median, e.low, e.high);
            }
            out.push('\n');
        }
    }
    out
}
