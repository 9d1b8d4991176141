//! What was measured as a page: tables in markdown, and plots beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::cells::Cell;
use super::tables::{CPU, Column, P99, RATE, Section};
use super::{Page, rest, summary};
use crate::Result;

const CPU_PLOT: (&str, &str, Column) = ("cpu", "CPU a request / limit's (less is better)", CPU);
const RATE_PLOT: (&str, &str, Column) =
    ("rate", "requests a second / limit's (more is better)", RATE);
const P99_PLOT: (&str, &str, Column) = ("p99", "p99 latency / limit's (less is better)", P99);

const HTTP: Section<'_> = Section {
    name: "http",
    title: "a 52-byte reply to each GET",
    plots: &[CPU_PLOT, RATE_PLOT, P99_PLOT],
};
const ECHO: Section<'_> = Section {
    name: "echo",
    title: "what comes goes back",
    plots: &[CPU_PLOT, RATE_PLOT, P99_PLOT],
};
const PROXY: Section<'_> = Section {
    name: "proxy",
    title: "64 bytes there and back, and bytes in one direction, through a relay",
    plots: &[
        ("cpu", "CPU a request, a byte / limit's (less is better)", CPU),
        ("rate", "requests, bytes a second / limit's (more is better)", RATE),
    ],
};
const TLS: Section<'_> = Section {
    name: "tls",
    title: "TLS 1.3 in user space, by rustls on both sides",
    plots: &[("cpu", "CPU a request, a handshake / tokio-rustls' (less is better)", CPU)],
};

/// Writes the page into a directory: `README.md` and what it shows. What an earlier page left there goes.
pub(super) fn page(page: &Page, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    for Section { name, plots, .. } in [HTTP, ECHO, PROXY, TLS] {
        for (file, ..) in plots {
            let _ = fs::remove_file(out.join(format!("{name}-{file}.svg")));
        }
    }
    for file in [rest::IDLE, rest::FILES] {
        let _ = fs::remove_file(out.join(file));
    }
    let mut text = String::from("# kio beside its peers\n\n");
    head(page, &mut text);
    text.push_str("## In short\n\n");
    summary::servers(page, &mut text);
    summary::proxies(page, &mut text);
    summary::tls(page, &mut text);
    summary::ahead(page, &mut text);
    let sections: [(Section<'_>, &[Cell]); 4] =
        [(HTTP, &page.http), (ECHO, &page.echo), (PROXY, &page.proxy), (TLS, &page.tls)];
    for (section, cells) in sections {
        section.write(cells, page.extent.pace.starts, out, &mut text)?;
    }
    rest::counted(page, &mut text);
    rest::idle(page, out, &mut text)?;
    rest::files(page, out, &mut text)?;
    fs::write(out.join("README.md"), format!("{}\n", text.trim_end()))?;
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
    for (name, why) in &page.skipped {
        let _ = writeln!(text, "skipped: {name}: {why}\n");
    }
}
