//! `tls`: kio with TLS in user space beside tokio-rustls, and whether kio keeps its bounds.
//!
//! One provider, one cipher, one key exchange, one kind of certificate. A request is a record each
//! way; a handshake has a connection of its own, which ends with it. Against the bounds stands the
//! CPU time of the server alone.

use crate::Result;
use crate::args::Args;
use crate::compare;
use crate::count;
use crate::driven::Pace;
use crate::load::{Plan, Tls};
use crate::server::Spec;
use crate::stats::{self, Estimate};
use crate::workload::Workload;

const CONNECTIONS: u32 = 50;
/// CPU time of a request, over that of tokio-rustls.
const REQUEST_MAX: f64 = 1.02;
/// Handshakes in a second of CPU time, over those of tokio-rustls.
const HANDSHAKES_MIN: f64 = 0.98;
/// The two lengths of a run under callgrind: requests, and handshakes, which take longer.
const REQUESTS: (u64, u64) = (4_000, 24_000);
const LARGE: (u64, u64) = (500, 2_500);
const SHAKES: (u64, u64) = (100, 600);

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let counts = args.flag("--count");
    let times = args.flag("--time");
    let pace = Pace::read(&mut args)?;
    let requests: u64 = args.get("--requests", 100_000)?;
    args.end()?;
    if times || !counts {
        compared(pace)?;
    }
    if counts || !times {
        counted(requests)?;
    }
    Ok(())
}

fn http() -> Plan {
    Plan::http(CONNECTIONS)
}

fn echo(size: usize) -> Plan {
    Plan { workload: Workload::Echo, size, ..http() }
}

fn handshakes(resume: bool) -> Plan {
    Plan { workload: Workload::Close, tls: Tls { resume, only_shake: true }, ..http() }
}

fn spec(name: &str) -> Result<Spec> {
    Ok(name.parse()?)
}

/// Times, in turn, and the bounds.
fn compared(pace: Pace) -> Result<()> {
    let requests = |e: Estimate| verdict("CPU/request", e, e.high <= REQUEST_MAX, REQUEST_MAX);
    let shaken = |e: Estimate| {
        // As many handshakes more as a handshake takes less.
        let e = Estimate { median: 1.0 / e.median, low: 1.0 / e.high, high: 1.0 / e.low };
        verdict("handshakes/CPU second", e, e.low >= HANDSHAKES_MIN, HANDSHAKES_MIN)
    };
    lines(pace, "https, 52-byte replies", &http(), requests)?;
    lines(pace, "full handshakes", &handshakes(false), shaken)?;
    lines(pace, "resumed handshakes", &handshakes(true), shaken)
}

fn lines(pace: Pace, title: &str, plan: &Plan, judge: impl Fn(Estimate) -> String) -> Result<()> {
    // kio twice: what its twins differ by is no difference.
    let specs = [spec("kio-tls")?, spec("tokio-rustls")?, spec("kio-tls")?];
    let Pace { rounds, starts, slice } = pace;
    let all = compare::measure(&specs, plan, pace)?;
    println!(
        "{title}, {CONNECTIONS} connections, {rounds} rounds of {} ms, {starts} starts\n\n{}",
        slice.as_millis(),
        compare::table(&all, starts, "req")
    );
    let [kio, peer, twin] = all.as_slice() else { unreachable!("three were given") };
    for kio in [kio, twin] {
        let ratio = stats::estimate(&stats::ratios(&kio.cpu, &peer.cpu), starts);
        println!("{:10} {}", kio.name, judge(ratio));
    }
    println!();
    Ok(())
}

fn verdict(what: &str, e: Estimate, kept: bool, bound: f64) -> String {
    let Estimate { median, low, high } = e;
    let told = match (kept, low <= bound && bound <= high) {
        (true, _) => "kept",
        (_, true) => "the interval holds the bound: not decided",
        _ => "missed",
    };
    format!("{what} {median:.3} [{low:.3}, {high:.3}] of tokio-rustls', bound {bound}: {told}")
}

/// What does not depend on the machine's mood.
fn counted(requests: u64) -> Result<()> {
    println!(
        "{:22} {:14} {:>9} {:>9} {:>9} {:>14}",
        "each request", "server", "calls", "allocs", "bytes", "instructions"
    );
    let few = requests / 10;
    let all = ["kio-tls", "tokio-rustls", "kio", "tokio"];
    let both = &all[..2];
    let cases = [
        ("http, 52 bytes", http(), requests, REQUESTS, &all[..]),
        ("echo of 64 bytes", echo(64), requests, REQUESTS, both),
        ("echo of 4 KiB", echo(4096), requests, REQUESTS, both),
        ("echo of 16 KiB", echo(16384), few, LARGE, both),
        ("full handshake", handshakes(false), few, SHAKES, both),
        ("resumed handshake", handshakes(true), few, SHAKES, both),
    ];
    for (title, plan, requests, lengths, names) in cases {
        for name in names {
            let spec = spec(name)?;
            let each = count::each(spec, &plan, requests)?;
            let instructions = match count::instructions(spec, &plan, lengths) {
                Ok(slope) => format!("{slope:.0}"),
                Err(why) => why.to_string(),
            };
            let calls = each.calls.map_or("-".into(), |calls| format!("{calls:.3}"));
            println!(
                "{title:22} {name:14} {calls:>9} {:>9.3} {:>9.0} {instructions:>14}",
                each.allocations, each.bytes
            );
        }
    }
    Ok(())
}
