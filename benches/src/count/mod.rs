//! `count`: what does not depend on the machine's mood. System calls and allocations a request, and
//! user-space instructions a request.
//!
//! System calls come from `perf stat` (which does not slow the server) and, by name, from `strace -c`
//! (which does, so it batches more). Allocations and instructions are slopes between a short run and a
//! long one, so that start-up and the making of connections drop out; instructions under callgrind.

mod tools;

use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, Report, Server};
use crate::compare::plan;
use crate::load::histogram::Histogram;
use crate::load::{self, Bound, Load, Plan};
use crate::ring::{self, Ring};
use crate::server::Spec;
use crate::sys;
pub use tools::Profile;
use tools::{Perf, Strace, Tracer};

/// No load runs longer.
const LIMIT: Duration = Duration::from_secs(60);
/// Requests before a count begins.
const WARM_UP: u64 = 5_000;
/// The two lengths of run under callgrind; the slope is between them.
const LENGTHS: (u64, u64) = (4_000, 24_000);

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let spec: Spec = args.find("--server")?.ok_or("missing: --server NAME")?;
    let plan = plan(&mut args)?;
    let requests: u64 = args.get("--requests", 200_000)?;
    args.end()?;
    if !(1..=100_000_000).contains(&requests) {
        return Err("--requests is 1 to 100000000".into());
    }
    sys::raise_nofile()?;
    sys::pin(LOAD_CPU)?;

    println!("{spec}, {}, {} connections", plan.workload.name(), plan.connections);
    let (calls, long) = traced::<Perf>(spec, &plan, requests)?;
    match &calls {
        Ok(calls) => {
            println!("system calls a request: {:.3} (perf stat)", *calls / requests as f64)
        }
        Err(why) => println!("system calls a request: not from perf: {why}"),
    }
    // A tenth of the requests is enough for the names, and gives the second point of a slope.
    let tenth = (requests / 10).max(1);
    let (names, short) = traced::<Strace>(spec, &plan, tenth)?;
    match names {
        Ok(table) => println!("system calls by name (strace, {tenth} requests):\n{table}"),
        Err(why) => println!("system calls by name: not from strace: {why}"),
    }
    let answered = long.requests.saturating_sub(short.requests).max(1);
    let each = |long: u64, short: u64| (long as f64 - short as f64) / answered as f64;
    println!(
        "allocations a request:  {:.4}, {:.1} bytes (slope; {} in all, those of connections included)",
        each(long.allocations, short.allocations),
        each(long.bytes, short.bytes),
        long.allocations
    );
    match instructions(spec, &plan, LENGTHS) {
        Ok(slope) => println!("user-space instructions a request: {slope:.0} (callgrind, slope)"),
        Err(why) => println!("user-space instructions a request: not from callgrind: {why}"),
    }
    Ok(())
}

/// What a request costs, where it can be counted.
pub struct Counted {
    /// System calls.
    pub calls: Option<f64>,
    /// Allocations.
    pub allocations: f64,
    /// Bytes of them.
    #[cfg(feature = "tls")]
    pub bytes: f64,
}

/// Counts over so many requests: system calls by `perf`, allocations as a slope.
pub fn each(spec: Spec, plan: &Plan, requests: u64) -> Result<Counted> {
    let (calls, long) = traced::<Perf>(spec, plan, requests)?;
    let (_, short) = traced::<Nothing>(spec, plan, (requests / 10).max(1))?;
    let answered = long.requests.saturating_sub(short.requests).max(1) as f64;
    Ok(Counted {
        calls: calls.ok().map(|calls| calls / requests as f64),
        allocations: (long.allocations as f64 - short.allocations as f64) / answered,
        #[cfg(feature = "tls")]
        bytes: (long.bytes as f64 - short.bytes as f64) / answered,
    })
}

/// Watches nothing.
struct Nothing;

impl Tracer for Nothing {
    type Seen = ();

    fn attach(_: u32) -> Result<Self> {
        Ok(Self)
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// Loads a warm server with `requests` while `T` watches it.
fn traced<T: Tracer>(spec: Spec, plan: &Plan, requests: u64) -> Result<(Result<T::Seen>, Report)> {
    let server = Server::start(spec, plan.workload)?;
    let mut uring = ring::build(load::CQ)?;
    let mut load = Load::new(Ring::over(&mut uring)?, plan, &[server.target()])?;
    let mut seen = Histogram::new();
    load.slice(0, Bound { time: LIMIT, requests: WARM_UP }, &mut seen)?;
    let tracer = T::attach(server.pid());
    load.slice(0, Bound { time: LIMIT, requests }, &mut seen)?;
    let found = tracer.and_then(Tracer::finish);
    drop(load);
    Ok((found, server.stop()?))
}

/// Instructions of a long run less those of a short one, over the difference of their requests.
pub fn instructions(spec: Spec, plan: &Plan, (short, long): (u64, u64)) -> Result<f64> {
    let run = |requests| -> Result<u64> {
        let profile = Profile::new(requests)?;
        let tool = profile.command();
        let tool: Vec<&str> = tool.iter().map(String::as_str).collect();
        let server = Server::start_under(&tool, spec, plan.workload, LIMIT)?;
        let mut uring = ring::build(load::CQ)?;
        let mut load = Load::new(Ring::over(&mut uring)?, plan, &[server.target()])?;
        load.slice(0, Bound { time: LIMIT, requests }, &mut Histogram::new())?;
        drop(load);
        server.stop()?;
        profile.instructions()
    };
    let (few, many) = (run(short)?, run(long)?);
    Ok((many as f64 - few as f64) / (long - short) as f64)
}
