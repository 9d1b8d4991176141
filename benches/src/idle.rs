//! `idle`: what a connection that is only open costs the server in resident memory.
//!
//! Kernel memory of sockets is in no process's figures; it is the same for all servers.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, Memory, Server};
use crate::load::histogram::Histogram;
use crate::load::{self, Bound, Load, Plan};
use crate::ring::{self, Ring};
use crate::server::Spec;
use crate::workload::Workload;
use crate::{stats, sys};

/// Connections from one source address; the usual range of ephemeral ports has 28,232.
const PER_SOURCE: usize = 20_000;
/// Descriptors that are not connections.
const RESERVE: u64 = 64;

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let spec: Spec = args.find("--server")?.ok_or("missing: --server NAME")?;
    let connections: usize = args.get("--connections", 10_000)?;
    args.end()?;
    if spec.kind.speaks_tls() {
        return Err("idle connections say nothing, and shake no hands".into());
    }
    let limit = sys::raise_nofile()?;
    if connections == 0 || connections as u64 > limit.saturating_sub(RESERVE) {
        return Err(format!(
            "--connections is 1 to {}: descriptors allowed (ulimit -Hn)",
            limit - RESERVE
        )
        .into());
    }

    let Cost { before, after, .. } = measure(spec, connections, None)?;
    println!("{spec}: {connections} idle connections");
    println!("{:>18} {:>12} {:>12} {:>16}", "", "before", "after", "per connection");
    for (name, of) in [("resident (VmRSS)", resident as fn(&Memory) -> u64), ("private", private)] {
        let (from, to) = (of(&before), of(&after));
        let each = (to as f64 - from as f64) / connections as f64;
        println!("{name:>18} {:>8} KiB {:>8} KiB {each:>14.1} B", from / 1024, to / 1024);
    }
    Ok(())
}

/// What idle connections cost.
pub struct Cost {
    before: Memory,
    after: Memory,
    /// Resident bytes of each.
    pub each: f64,
    /// Requests a second of 50 other connections, alone and beside the idle ones.
    pub rates: Option<(f64, f64)>,
}

/// Opens so many to a server of its own, and, if there is a time to do so in, has others ask it before
/// and after.
pub fn measure(spec: Spec, connections: usize, slice: Option<Duration>) -> Result<Cost> {
    let server = Server::start(spec, Workload::Http)?;
    sys::pin(LOAD_CPU)?;
    let alone = slice.map(|slice| rate(&server, slice)).transpose()?;
    // One connection first: what the first one alone costs is not the price of each.
    let mut open = vec![sys::connect(server.port, source(0))?];
    let before = settled(&server)?;
    while open.len() <= connections {
        open.push(sys::connect(server.port, source(open.len()))?);
    }
    let after = settled(&server)?;
    let beside = slice.map(|slice| rate(&server, slice)).transpose()?;
    drop(open);
    server.stop()?;
    let each = (after.resident as f64 - before.resident as f64) / connections as f64;
    Ok(Cost { before, after, each, rates: alone.zip(beside) })
}

/// Requests a second of 50 connections.
fn rate(server: &Server, slice: Duration) -> Result<f64> {
    let plan = Plan::http(50);
    let mut uring = ring::build(load::CQ)?;
    let mut load = Load::new(Ring::over(&mut uring)?, &plan, &[server.target()])?;
    let bound = Bound { time: slice, requests: u64::MAX };
    let rates = (0..4).map(|_| {
        let slice = load.slice(0, bound, &mut Histogram::new())?;
        Ok(slice.ops / slice.wall.as_secs_f64())
    });
    // The first one warms up.
    let rates = rates.skip(1).collect::<Result<Vec<_>>>()?;
    Ok(stats::median(&rates))
}

fn resident(memory: &Memory) -> u64 {
    memory.resident
}

fn private(memory: &Memory) -> u64 {
    memory.private
}

/// The source address of connection `i`; none where one address is enough.
fn source(i: usize) -> Option<Ipv4Addr> {
    let nth = (i / PER_SOURCE) as u8;
    (nth > 0).then(|| Ipv4Addr::new(127, 0, 0, 1 + nth))
}

/// The server's memory once it has taken in every connection and sleeps: its CPU time stands still.
fn settled(server: &Server) -> Result<Memory> {
    let until = Instant::now() + Duration::from_secs(10);
    let mut last = server.cpu()?;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
        let now = server.cpu()?;
        if now == last {
            return Ok(server.memory()?);
        }
        last = now;
    }
    Err("the server does not come to rest".into())
}
