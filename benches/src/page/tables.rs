//! Comparisons as plots and tables, with what each figure is beside the yardstick's.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::cells::Cell;
use super::plot::Groups;
use crate::Result;
use crate::compare::SATURATED;
use crate::series::Series;
use crate::stats::{self, Estimate};

/// A number of each round of a series.
#[derive(Clone, Copy)]
pub(super) struct Column {
    of: fn(&Series) -> &Vec<f64>,
    /// Only where latencies were seen.
    latency: bool,
    /// Whether less is better.
    pub less: bool,
    pub name: &'static str,
}

pub(super) const RATE: Column =
    Column { of: |series| &series.rate, latency: false, less: false, name: "rate" };
pub(super) const CPU: Column =
    Column { of: |series| &series.cpu, latency: false, less: true, name: "CPU" };
pub(super) const P99: Column =
    Column { of: |series| &series.p99, latency: true, less: true, name: "p99" };

impl Column {
    /// The column's median.
    pub fn median(self, of: &Series) -> f64 {
        stats::median((self.of)(of))
    }

    /// One series over another, where both have the column.
    pub fn ratio(self, of: &Series, to: &Series, starts: usize) -> Option<Estimate> {
        if self.latency && (of.seen.is_empty() || to.seen.is_empty()) {
            return None;
        }
        Some(stats::estimate(&stats::ratios((self.of)(of), (self.of)(to)), starts))
    }
}

/// The first of that name.
pub(super) fn base<'a>(all: &'a [Series], name: &str) -> Option<&'a Series> {
    all.iter().find(|series| series.name == name)
}

/// A figure with its interval.
pub(super) fn shown(e: Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", e.median, e.low, e.high)
}

/// A row for each that is not here.
pub(super) fn skipped(skipped: &[(String, String)], columns: usize, text: &mut String) {
    for (name, why) in skipped {
        let rest = " |".repeat(columns - 2);
        let _ = writeln!(text, "| {name} | skipped: {why} |{rest}");
    }
}

/// A section: its plots, then a table a comparison.
pub(super) struct Section<'a> {
    /// What its plots' files begin with.
    pub name: &'static str,
    pub title: &'a str,
    /// The plots: the end of a file's name, what is above it, and of which column.
    pub plots: &'a [(&'static str, &'static str, Column)],
}

impl Section<'_> {
    /// Writes it, if there is anything.
    pub fn write(
        &self,
        cells: &[Cell],
        starts: usize,
        out: &Path,
        text: &mut String,
    ) -> Result<()> {
        if cells.is_empty() {
            return Ok(());
        }
        let name = self.name;
        let _ = writeln!(text, "## {name}: {}\n", self.title);
        for (file, title, column) in self.plots {
            let plot = Groups {
                title: format!("{name}: {title}"),
                places: cells.iter().map(|cell| cell.place.clone()).collect(),
                series: against_base(cells, *column, starts),
                line: Some(1.0),
            };
            if let Some(svg) = plot.draw() {
                let file = format!("{name}-{file}.svg");
                fs::write(out.join(&file), svg)?;
                let _ = writeln!(text, "![{name}: {title}]({file})\n");
            }
        }
        cells.iter().for_each(|cell| table(cell, starts, text));
        Ok(())
    }
}

/// Each server's ratios to the yardstick, cell by cell; the yardstick itself is the line at 1.
fn against_base(
    cells: &[Cell],
    column: Column,
    starts: usize,
) -> Vec<(String, Vec<Option<Estimate>>)> {
    let mut series: Vec<(String, Vec<Option<Estimate>>)> = Vec::new();
    for cell in cells {
        let all = cell.series.as_ref().map_or(&[][..], |all| all.as_slice());
        for Series { name, .. } in all.iter().filter(|series| series.name != cell.base) {
            if series.iter().any(|(known, _)| known == name) {
                continue;
            }
            let values = cells.iter().map(|cell| {
                let all = cell.series.as_ref().ok()?;
                column.ratio(base(all, name)?, base(all, cell.base)?, starts)
            });
            let values = values.collect();
            series.push((name.clone(), values));
        }
    }
    series
}

fn table(cell: &Cell, starts: usize, text: &mut String) {
    let Cell { title, op, base: name, .. } = cell;
    let _ = writeln!(text, "### {title}\n");
    let all = match &cell.series {
        Ok(all) => all,
        Err(why) => {
            let _ = writeln!(text, "Not measured: {why}\n");
            for (name, why) in &cell.skipped {
                let _ = writeln!(text, "skipped: {name}: {why}\n");
            }
            return;
        }
    };
    let _ = writeln!(
        text,
        "| | {} | {} | p50 us | p99 us | p99.9 us | load CPU | {} / {name} | CPU / {name} | p99 / \
         {name} |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        op.rate, op.cpu, op.rate
    );
    let base = base(all, name);
    for series in all {
        let _ = write!(
            text,
            "| {} | {:.0} | {:.3} |",
            series.name,
            RATE.median(series),
            CPU.median(series) * op.factor
        );
        for part in [0.5, 0.99, 0.999] {
            let _ = match series.seen.is_empty() {
                true => write!(text, " - |"),
                false => write!(text, " {:.1} |", series.seen.quantile_us(part)),
            };
        }
        let _ = write!(text, " {:.0} % |", stats::median(&series.load) * 100.0);
        for column in [RATE, CPU, P99] {
            let base = base.filter(|base| base.name != series.name);
            let compared = base.and_then(|base| column.ratio(series, base, starts)).map(shown);
            let _ = write!(text, " {} |", compared.unwrap_or_default());
        }
        text.push('\n');
    }
    skipped(&cell.skipped, 10, text);
    text.push('\n');
    if all.iter().any(|series| stats::median(&series.load) > SATURATED) {
        text.push_str(
            "The load was the bottleneck: the rate is what it can do, the CPU time is the server's \
             own.\n\n",
        );
    }
}
