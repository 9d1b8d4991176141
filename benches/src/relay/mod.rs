//! `relay`: what a proxy costs that only moves bytes. Each entry relays the load's connections to the
//! load's own upstream: `bulk` in one direction, `requests` of 64 bytes there and back.
//!
//! The load is both ends, on one CPU; the relay has the other. A relay connects upstream itself, so the
//! congestion control is the system's: it is measured in a network of its own, with reno.

mod foreign;
mod kio;
mod limit;
mod load;
mod requests;
mod tokio;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, SERVER_CPU, Server};
use crate::compare;
use crate::driven::{self, Dir, Pace};
use crate::foreign::Running;
use crate::netns;
use crate::series::{Series, Turn, in_turn};
use crate::server;
use crate::stats::Rng;
use crate::sys;
use load::Load;

/// A relay that has nothing to do sleeps before this is over.
const SETTLE: Duration = Duration::from_millis(1);
/// All that relay: the yardstick, kio, the others.
pub const ENTRIES: [&str; 5] = ["limit", "kio", "tokio", "haproxy", "nginx"];

/// What is relayed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Bytes in one direction, as fast as they go; an operation is a MiB.
    Bulk,
    /// 64 bytes there and back; an operation is both.
    Requests,
}

/// An entry, found on this machine.
pub enum Entry {
    /// A child of this program.
    Ours(&'static str),
    /// haproxy, and where it is.
    Haproxy(PathBuf),
    /// nginx with its module for streams.
    Nginx(foreign::Nginx),
}

impl Entry {
    /// The entry of that name, or why it cannot be measured here.
    pub fn find(name: &str, haproxy: &str, nginx: &str) -> Result<Self> {
        match ENTRIES.iter().find(|known| **known == name) {
            Some(&"haproxy") => Ok(Self::Haproxy(foreign::find_haproxy(haproxy)?)),
            Some(&"nginx") => Ok(Self::Nginx(foreign::Nginx::find(nginx)?)),
            Some(&ours) => Ok(Self::Ours(ours)),
            None => Err(format!("unknown entry `{name}`: {}", ENTRIES.join(", ")).into()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ours(name) => name,
            Self::Haproxy(_) => "haproxy",
            Self::Nginx(_) => "nginx",
        }
    }

    fn start(&self, dir: &Path, upstream: u16) -> Result<Running> {
        Ok(match self {
            Self::Ours(name) => {
                let (upstream, cpu) = (upstream.to_string(), SERVER_CPU.to_string());
                let args = ["relayed", name, "--upstream", &upstream, "--cpus", &cpu];
                Running::Ours(Server::start_as(&args)?)
            }
            Self::Haproxy(exe) => Running::Foreign(foreign::haproxy(exe, dir, upstream)?),
            Self::Nginx(nginx) => Running::Foreign(nginx.start(dir, upstream)?),
        })
    }
}

/// What was measured.
pub struct Relayed {
    /// The rounds of each entry.
    pub series: Vec<Series>,
    /// Allocations of each in all its starts, where they are counted: those of connecting too.
    allocations: Vec<Option<u64>>,
}

/// Has each entry relay so many streams, in turn, for a while.
pub fn measure(
    what: What,
    streams: usize,
    entries: &[&Entry],
    pace: Pace,
    dir: &Path,
) -> Result<Relayed> {
    sys::raise_nofile()?;
    sys::pin(LOAD_CPU)?;
    let names: Vec<&str> = entries.iter().map(|entry| entry.name()).collect();
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    let mut series = Series::all(&names);
    let mut allocations = vec![Some(0); entries.len()];
    for _ in 0..pace.starts {
        let mut running = Vec::new();
        for (entry, name) in entries.iter().zip(&names) {
            let upstream = std::net::TcpListener::from(sys::listen(0)?);
            let relay = entry.start(dir, upstream.local_addr()?.port())?;
            let load = Load::new(what, relay.port(), &upstream, streams)
                .map_err(|e| format!("{name}: {e} {}", relay.said()))?;
            running.push((relay, load));
        }
        in_turn(&mut series, pace.rounds / pace.starts, &mut rng, |i, seen| {
            let (relay, load) = &mut running[i];
            Turn::take(|| relay.cpu(), SETTLE, || load.slice(pace.slice, seen))
        })?;
        for ((relay, load), all) in running.into_iter().zip(&mut allocations) {
            drop(load);
            *all = all.zip(relay.stop()?).map(|(all, made)| all + made);
        }
    }
    Ok(Relayed { series, allocations })
}

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let what = match args.get("--workload", "bulk".to_string())?.as_str() {
        "bulk" => What::Bulk,
        "requests" => What::Requests,
        other => return Err(format!("unknown workload `{other}`: bulk or requests").into()),
    };
    let names = args.get("--entries", "limit,kio,tokio,limit".to_string())?;
    let streams: usize = args.get("--connections", if what == What::Bulk { 1 } else { 50 })?;
    let haproxy = args.get("--haproxy", "haproxy".to_string())?;
    let nginx = args.get("--nginx", "nginx".to_string())?;
    let pace = Pace::read(&mut args)?;
    let dir = Dir::new(&mut args)?;
    args.end()?;
    if streams == 0 || streams > 200 {
        return Err("--connections is 1 to 200".into());
    }
    let find = |name| Entry::find(name, &haproxy, &nginx);
    let entries = names.split(',').map(find).collect::<Result<Vec<_>>>()?;
    if let Err(why) = netns::enter() {
        eprintln!("measured in the host's network: {why}");
    }
    let entries: Vec<&Entry> = entries.iter().collect();
    let all = measure(what, streams, &entries, pace, dir.path())?;
    let (title, op) = match what {
        What::Bulk => ("bulk, one direction; CPU us/MiB x 1.024 is CPU ms/GiB", "MiB"),
        What::Requests => ("requests of 64 bytes there and back", "req"),
    };
    println!(
        "relay: {title}; {streams} connections, {} rounds of {} ms, {} starts\n",
        pace.rounds,
        pace.slice.as_millis(),
        pace.starts
    );
    print!(
        "{}\nallocations, those of connecting too:",
        compare::table(&all.series, pace.starts, op)
    );
    for (series, made) in all.series.iter().zip(&all.allocations) {
        let made = made.map_or("not counted".into(), |made| made.to_string());
        print!(" {} {made};", series.name);
    }
    println!();
    Ok(())
}

/// The child: one relay.
pub fn child(mut args: Args) -> Result<()> {
    let name = args.word("the entry's name")?;
    let upstream: u16 = args.find("--upstream")?.ok_or("missing: --upstream")?;
    driven::pin(&mut args)?;
    args.end()?;
    sys::raise_nofile()?;
    match name.as_str() {
        "kio" => kio::run(upstream)?,
        "limit" => limit::run(upstream)?,
        "tokio" => tokio::run(upstream)?,
        _ => return Err(format!("unknown entry `{name}`").into()),
    }
    server::report();
    Ok(())
}
