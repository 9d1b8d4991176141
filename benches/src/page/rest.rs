//! What is not a comparison of series: what was counted, idle connections, files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Page;
use super::plot::bars;
use super::tables::{shown, skipped};
use crate::Result;
use crate::driven::Rounds;
use crate::stats;

/// Its plots.
pub(super) const IDLE: &str = "idle.svg";
pub(super) const FILES: &str = "files.svg";

pub(super) fn counted(page: &Page, text: &mut String) {
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

pub(super) fn idle(page: &Page, out: &Path, text: &mut String) -> Result<()> {
    if page.idle.is_empty() {
        return Ok(());
    }
    let _ = writeln!(text, "## {} idle connections\n", page.extent.idle);
    let costs =
        page.idle.iter().filter_map(|(name, cost)| Some((name.clone(), cost.as_ref().ok()?.each)));
    let costs: Vec<_> = costs.collect();
    let title = "resident bytes of an idle connection (less is better)";
    if let Some(svg) = bars(title, &costs, 0) {
        fs::write(out.join(IDLE), svg)?;
        let _ = writeln!(text, "![{title}]({IDLE})\n");
    }
    text.push_str(
        "| | resident bytes each | requests/s of 50 others, alone | beside them | beside / alone |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (name, cost) in &page.idle {
        let _ = match cost {
            Ok(cost) => {
                let (alone, beside) = cost.rates.unwrap_or((f64::NAN, f64::NAN));
                let each = cost.each;
                let part = beside / alone;
                writeln!(text, "| {name} | {each:.1} | {alone:.0} | {beside:.0} | {part:.3} |")
            }
            Err(why) => writeln!(text, "| {name} | not measured: {why} | | | |"),
        };
    }
    text.push('\n');
    Ok(())
}

pub(super) fn files(page: &Page, out: &Path, text: &mut String) -> Result<()> {
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
        fs::write(out.join(FILES), svg)?;
        let _ = writeln!(text, "![{title}]({FILES})\n");
    }
    text.push_str(
        "| | reads/s | CPU us/read | allocations/read | reads/s / limit | CPU / limit |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for rounds in all {
        let _ = write!(
            text,
            "| {} | {:.0} | {:.3} | {} |",
            rounds.name,
            stats::median(&rounds.rate),
            stats::median(&rounds.cpu),
            rounds.made()
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
    skipped(&crate::files::missing(), 6, text);
    text.push('\n');
    Ok(())
}
