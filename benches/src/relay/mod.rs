//! `relay`: what a proxy costs that only moves bytes. Each entry relays the load's connections to the
//! load's own upstream: `bulk` in one direction, `requests` of 64 bytes there and back.
//!
//! The load is both ends, on one CPU; the relay has the other. Entries are driven in turn, in slices.

mod haproxy;
mod kio;
mod limit;
mod load;
mod tokio;

use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, SERVER_CPU, Server, cpu_of};
use crate::driven::{self, Pace, Rounds, Took};
use crate::server;
use crate::stats::{self, Rng};
use crate::sys;
use haproxy::Haproxy;
use load::Load;

/// A relay that has nothing to do sleeps before this is over.
const SETTLE: Duration = Duration::from_millis(1);
const ENTRIES: [&str; 4] = ["kio", "limit", "tokio", "haproxy"];

/// What is relayed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Bulk,
    Requests,
}

enum Running {
    Ours(Server),
    Haproxy(Haproxy),
}

impl Running {
    fn start(name: &str, haproxy: &str, upstream: u16) -> Result<Self> {
        if name == "haproxy" {
            return Ok(Self::Haproxy(Haproxy::start(haproxy, upstream)?));
        }
        let (upstream, cpu) = (upstream.to_string(), SERVER_CPU.to_string());
        let args = ["relayed", name, "--upstream", &upstream, "--cpus", &cpu];
        Ok(Self::Ours(Server::start_as(&args)?))
    }

    fn port(&self) -> u16 {
        match self {
            Self::Ours(server) => server.port,
            Self::Haproxy(haproxy) => haproxy.port,
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Ours(server) => server.pid(),
            Self::Haproxy(haproxy) => haproxy.pid(),
        }
    }
}

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let what = match args.get("--workload", "bulk".to_string())?.as_str() {
        "bulk" => What::Bulk,
        "requests" => What::Requests,
        other => return Err(format!("unknown workload `{other}`: bulk or requests").into()),
    };
    let names = args.get("--entries", "limit,kio,tokio,limit".to_string())?;
    let names: Vec<&str> = names.split(',').collect();
    if let Some(unknown) = names.iter().find(|name| !ENTRIES.contains(name)) {
        return Err(format!("unknown entry `{unknown}`: {}", ENTRIES.join(", ")).into());
    }
    let streams: usize = args.get("--connections", if what == What::Bulk { 1 } else { 50 })?;
    let haproxy = args.get("--haproxy", "haproxy".to_string())?;
    let pace = Pace::read(&mut args)?;
    args.end()?;
    if streams == 0 || streams > 200 {
        return Err("--connections is 1 to 200".into());
    }
    sys::raise_nofile()?;
    sys::pin(LOAD_CPU)?;
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    let mut all = Rounds::all(&names);
    let mut busy: Vec<Vec<f64>> = vec![vec![]; names.len()];
    for _ in 0..pace.starts {
        let mut running = Vec::new();
        for name in &names {
            let upstream = std::net::TcpListener::from(sys::listen(0)?);
            let relay = Running::start(name, &haproxy, upstream.local_addr()?.port())?;
            let load = Load::new(what, relay.port(), &upstream, streams)
                .map_err(|e| format!("{name}: {e}"))?;
            running.push((relay, load));
        }
        let mut order: Vec<usize> = (0..names.len()).collect();
        // The first round warms up and is not counted.
        for round in 0..=pace.rounds / pace.starts {
            rng.shuffle(&mut order);
            for &i in &order {
                let (relay, load) = &mut running[i];
                let before = cpu_of(relay.pid())?;
                let slice = load.slice(pace.slice).map_err(|e| format!("{}: {e}", names[i]))?;
                std::thread::sleep(SETTLE);
                let cpu = cpu_of(relay.pid())?.saturating_sub(before);
                if round > 0 {
                    let took = Took { wall: slice.wall, cpu, allocations: 0 };
                    all[i].add(slice.ops, took);
                    busy[i].push(slice.cpu.as_secs_f64() / slice.wall.as_secs_f64());
                }
            }
        }
        for (i, (relay, load)) in running.into_iter().enumerate() {
            drop(load);
            if let Running::Ours(server) = relay {
                all[i].allocations += server.stop()?.allocations;
            }
        }
    }
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
    print!("{}", driven::table(&all, &["limit", "tokio", "haproxy"], pace.starts, op));
    println!();
    for (rounds, busy) in all.iter().zip(&busy) {
        println!("load's CPU beside {:12} {:3.0} %", rounds.name, stats::median(busy) * 100.0);
    }
    println!("Allocations are those of connecting too; haproxy's are not counted.");
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
