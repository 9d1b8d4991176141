//! What was measured as a page: tables in markdown, and plots beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::plot::{Groups, bars};
use super::{Cell, Page};
use crate::Result;
use crate::compare::{SATURATED, Series};
use crate::driven::Rounds;
use crate::stats::{self, Estimate};

/// A number of each round of a series.
type Column = fn(&Series) -> &Vec<f64>;

const RATE: Column = |series| &series.rate;
const CPU: Column = |series| &series.cpu;
const P99: Column = |series| &series.p99;

/// Writes the page into a directory: `README.md` and what it shows.
pub(super) fn page(page: &Page, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let mut text = String::from("# kio beside its peers\n\n");
    head(page, &mut text);
    summary(page, &mut text);
    section(page, &page.http, "http", "a 52-byte reply to each GET", out, &mut text)?;
    section(page, &page.echo, "echo", "what comes goes back", out, &mut text)?;
    counted(page, &mut text);
    idle(page, out, &mut text)?;
    files(page, out, &mut text)?;
    fs::write(out.join("README.md"), text)?;
    Ok(())
}

fn head(page: &Page, text: &mut String) {
    let pace = page.extent.pace;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let _ = writeln!(
        text,
        "Drawn by `cargo run --release --features peers -- page` in {} s ({}). Linux {}, servers on one \
         CPU and the load on another, {}. Servers are driven in turn in slices of {} ms, {} rounds, \
         started anew {} times; figures are medians, intervals hold 95 % by bootstrap. `limit` is an \
         io_uring loop written by hand for these workloads; entered twice (`limit#2`) it shows what \
         differs by chance. How to read the figures: [benches/README.md](../README.md).\n",
        page.took.as_secs(),
        page.extent.name,
        release.trim(),
        match &page.network {
            Ok(()) => "a network namespace of its own with reno".to_string(),
            Err(why) => format!("the host's network ({why})"),
        },
        pace.slice.as_millis(),
        pace.rounds,
        pace.starts
    );
    if page.extent.name != "full" {
        text.push_str(
            "**Not at full length: good for seeing that it works, not for figures.**\n\n",
        );
    }
}

fn base<'a>(all: &'a [Series], name: &str) -> Option<&'a Series> {
    all.iter().find(|series| series.name == name)
}

fn ratio(page: &Page, of: &Series, to: &Series, column: Column) -> Estimate {
    stats::estimate(&stats::ratios(column(of), column(to)), page.extent.pace.starts)
}

fn shown(e: Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", e.median, e.low, e.high)
}

/// What is to be reached, and whether it is; and where a peer is ahead.
fn summary(page: &Page, text: &mut String) {
    let cells: Vec<&Cell> = page.http.iter().chain(&page.echo).collect();
    if cells.is_empty() {
        return;
    }
    text.push_str(
        "## In short\n\n| | CPU a request, kio / limit | p99, kio / limit | requests a second, \
         kio / the best other | CPU a request, kio / the best other |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for cell in cells {
        let Ok(all) = &cell.series else { continue };
        let (Some(kio), Some(limit)) = (base(all, "kio"), base(all, "limit")) else { continue };
        let own = ["kio", "limit"];
        let others = || all.iter().filter(|s| !own.iter().any(|name| s.name.starts_with(name)));
        let by = |column: Column| {
            move |a: &&Series, b: &&Series| {
                stats::median(column(a)).total_cmp(&stats::median(column(b)))
            }
        };
        let best = |other: Option<&Series>, column: Column| match other {
            Some(other) => format!("{} ({})", shown(ratio(page, kio, other, column)), other.name),
            None => "-".into(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            cell.title,
            shown(ratio(page, kio, limit, CPU)),
            shown(ratio(page, kio, limit, P99)),
            best(others().max_by(by(RATE)), RATE),
            best(others().min_by(by(CPU)), CPU),
        );
    }
    text.push('\n');
}

fn section(
    page: &Page,
    cells: &[Cell],
    name: &str,
    what: &str,
    out: &Path,
    text: &mut String,
) -> Result<()> {
    if cells.is_empty() {
        return Ok(());
    }
    let _ = writeln!(text, "## {name}: {what}\n");
    for (file, title, column) in [
        ("cpu", "CPU a request / limit's (less is better)", CPU),
        ("rate", "requests a second / limit's (more is better)", RATE),
        ("p99", "p99 latency / limit's (less is better)", P99),
    ] {
        let plot = Groups {
            title: format!("{name}: {title}"),
            places: cells.iter().map(|cell| cell.place.clone()).collect(),
            series: against_limit(page, cells, column),
            line: Some(1.0),
        };
        if let Some(svg) = plot.draw() {
            let file = format!("{name}-{file}.svg");
            fs::write(out.join(&file), svg)?;
            let _ = writeln!(text, "![{name}: {title}]({file})\n");
        }
    }
    cells.iter().for_each(|cell| table(page, cell, text));
    Ok(())
}

/// Each server's ratios to `limit`, cell by cell; `limit` itself is the line at 1.
fn against_limit(
    page: &Page,
    cells: &[Cell],
    column: Column,
) -> Vec<(String, Vec<Option<Estimate>>)> {
    let measured = cells.iter().filter_map(|cell| cell.series.as_ref().ok());
    let names = measured.flat_map(|all| all.iter().map(|series| series.name.clone()));
    let mut series: Vec<(String, Vec<Option<Estimate>>)> = Vec::new();
    for name in names.filter(|name| name != "limit") {
        if series.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let values = cells.iter().map(|cell| {
            let all = cell.series.as_ref().ok()?;
            Some(ratio(page, base(all, &name)?, base(all, "limit")?, column))
        });
        let values = values.collect();
        series.push((name, values));
    }
    series
}

fn table(page: &Page, cell: &Cell, text: &mut String) {
    let _ = writeln!(text, "### {}\n", cell.title);
    let all = match &cell.series {
        Ok(all) => all,
        Err(why) => {
            let _ = writeln!(text, "Not measured: {why}\n");
            return;
        }
    };
    text.push_str(
        "| | requests/s | CPU us/request | p50 us | p99 us | p99.9 us | load CPU | requests/s / \
         limit | CPU / limit | p99 / limit |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let limit = base(all, "limit");
    for series in all {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| series.seen.quantile_us(part));
        let _ = write!(
            text,
            "| {} | {:.0} | {:.3} | {p50:.1} | {p99:.1} | {p999:.1} | {:.0} % |",
            series.name,
            stats::median(&series.rate),
            stats::median(&series.cpu),
            stats::median(&series.load) * 100.0
        );
        for column in [RATE, CPU, P99] {
            let compared = limit.filter(|limit| limit.name != series.name);
            let compared = compared.map(|limit| shown(ratio(page, series, limit, column)));
            let _ = write!(text, " {} |", compared.unwrap_or_default());
        }
        text.push('\n');
    }
    text.push('\n');
    if all.iter().any(|series| stats::median(&series.load) > SATURATED) {
        text.push_str(
            "The load was the bottleneck: requests a second are what it can do, CPU a request is the \
             server's own.\n\n",
        );
    }
}

fn counted(page: &Page, text: &mut String) {
    if page.counted.is_empty() {
        return;
    }
    text.push_str(
        "## Counted: http, 50 connections\n\n| | system calls a request | allocations a request |\n\
         | --- | --- | --- |\n",
    );
    for (spec, counted) in &page.counted {
        let _ = match counted {
            Ok(counted) => {
                let calls = counted.calls.map_or("not without perf".into(), |n| format!("{n:.3}"));
                writeln!(text, "| {spec} | {calls} | {:.4} |", counted.allocations)
            }
            Err(why) => writeln!(text, "| {spec} | not counted: {why} | |"),
        };
    }
    text.push('\n');
}

fn idle(page: &Page, out: &Path, text: &mut String) -> Result<()> {
    if page.idle.is_empty() {
        return Ok(());
    }
    let _ = writeln!(text, "## {} idle connections\n", page.extent.idle);
    let costs = page
        .idle
        .iter()
        .filter_map(|(spec, cost)| Some((spec.to_string(), cost.as_ref().ok()?.each)));
    let costs: Vec<_> = costs.collect();
    let title = "resident bytes of an idle connection (less is better)";
    if let Some(svg) = bars(title, &costs, 0) {
        fs::write(out.join("idle.svg"), svg)?;
        let _ = writeln!(text, "![{title}](idle.svg)\n");
    }
    text.push_str(
        "| | resident bytes each | requests/s of 50 others, alone | beside them | beside / alone |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (spec, cost) in &page.idle {
        let _ = match cost {
            Ok(cost) => {
                let (alone, beside) = cost.rates.unwrap_or((f64::NAN, f64::NAN));
                let each = cost.each;
                let part = beside / alone;
                writeln!(text, "| {spec} | {each:.1} | {alone:.0} | {beside:.0} | {part:.3} |")
            }
            Err(why) => writeln!(text, "| {spec} | not measured: {why} | | | |"),
        };
    }
    text.push('\n');
    Ok(())
}

fn files(page: &Page, out: &Path, text: &mut String) -> Result<()> {
    let Some(files) = &page.files else { return Ok(()) };
    let _ = writeln!(
        text,
        "## Files: random 4 KiB reads of {} MiB in the page cache, 64 at once\n",
        page.extent.mib
    );
    let all = match files {
        Ok(all) => all,
        Err(why) => {
            let _ = writeln!(text, "Not measured: {why}");
            return Ok(());
        }
    };
    let limit = all.iter().find(|rounds| rounds.name == "limit");
    let cpu: Vec<_> = all.iter().map(|r| (r.name.clone(), stats::median(&r.cpu))).collect();
    let title = "CPU us a read (less is better)";
    if let Some(svg) = bars(title, &cpu, 2) {
        fs::write(out.join("files.svg"), svg)?;
        let _ = writeln!(text, "![{title}](files.svg)\n");
    }
    text.push_str(
        "| | reads/s | CPU us/read | allocations/read | reads/s / limit | CPU / limit |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for rounds in all {
        let _ = write!(
            text,
            "| {} | {:.0} | {:.3} | {:.4} |",
            rounds.name,
            stats::median(&rounds.rate),
            stats::median(&rounds.cpu),
            rounds.allocations as f64 / rounds.ops as f64
        );
        let columns: [fn(&Rounds) -> &Vec<f64>; 2] = [|rounds| &rounds.rate, |rounds| &rounds.cpu];
        for column in columns {
            let other = limit.filter(|limit| limit.name != rounds.name);
            let compared = other.map(|limit| {
                let ratios = stats::ratios(column(rounds), column(limit));
                shown(stats::estimate(&ratios, page.extent.pace.starts))
            });
            let _ = write!(text, " {} |", compared.unwrap_or_default());
        }
        text.push('\n');
    }
    Ok(())
}
