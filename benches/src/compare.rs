//! `compare`: servers driven in turn, in short slices, and compared round by round.
//!
//! Every server runs for the whole time with all its connections open; only one is driven at a time.
//! The order is shuffled each round. Between slices the server falls asleep, so that its CPU time is exact.
//! All servers are started anew a few times: a process keeps the luck of its memory's places for life.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, Server};
use crate::load::histogram::Histogram;
use crate::load::{self, Bound, Load, Plan, Target, Tls};
use crate::ring::{self, Ring};
use crate::server::Spec;
use crate::stats::{self, Rng};
use crate::sys;
use crate::workload::Workload;

/// A server that has nothing to do sleeps before this is over; added to what it spins.
const SETTLE: Duration = Duration::from_micros(500);

/// A load that computes for more of the time than this is the bottleneck.
pub const SATURATED: f64 = 0.95;

/// One server's rounds.
pub struct Series {
    /// Its name; the second of two alike ends in `#2`.
    pub name: String,
    /// Requests a second, round by round.
    pub rate: Vec<f64>,
    /// Its CPU time a request in microseconds, round by round.
    pub cpu: Vec<f64>,
    /// CPU time of the load over wall time, round by round.
    pub load: Vec<f64>,
    /// The 99th percentile of the latencies in microseconds, round by round.
    pub p99: Vec<f64>,
    /// Latencies of all rounds.
    pub seen: Histogram,
}

impl Series {
    /// Empty, for `spec` as the `nth` of its name.
    pub fn new(spec: Spec, nth: usize) -> Self {
        let name = if nth == 1 { spec.to_string() } else { format!("{spec}#{nth}") };
        Self { name, rate: vec![], cpu: vec![], load: vec![], p99: vec![], seen: Histogram::new() }
    }

    /// One for each of `specs`.
    pub fn all(specs: &[Spec]) -> Vec<Self> {
        let nth = |i: usize| specs[..=i].iter().filter(|s| **s == specs[i]).count();
        specs.iter().enumerate().map(|(i, &spec)| Self::new(spec, nth(i))).collect()
    }
}

/// Reads `--servers a,b,c`.
pub fn servers(args: &mut Args, default: &str) -> Result<Vec<Spec>> {
    let list = args.get("--servers", default.to_string())?;
    Ok(list.split(',').map(str::parse).collect::<Result<_, _>>()?)
}

/// Reads what `--workload`, `--connections`, `--size` and `--pipeline` say.
pub fn plan(args: &mut Args) -> Result<Plan> {
    let workload = args.get("--workload", Workload::Http)?;
    let plan = Plan {
        workload,
        connections: args.get("--connections", 50)?,
        size: args.get("--size", if workload == Workload::Echo { 64 } else { 0 })?,
        pipeline: args.get("--pipeline", 1)?,
        tls: Tls { resume: args.flag("--resume"), only_shake: args.flag("--only-shake") },
    };
    if plan.connections == 0 || plan.pipeline == 0 {
        return Err("--connections and --pipeline begin at 1".into());
    }
    if plan.workload == Workload::Close && plan.pipeline != 1 {
        return Err("close sends one request a connection: no --pipeline".into());
    }
    if plan.workload != Workload::Close && (plan.tls.resume || plan.tls.only_shake) {
        return Err("--resume and --only-shake are of --workload close".into());
    }
    Ok(plan)
}

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let specs = servers(&mut args, "limit,tokio,limit")?;
    let plan = plan(&mut args)?;
    let quick = args.flag("--quick");
    let rounds: usize = args.get("--rounds", if quick { 15 } else { 60 })?;
    let starts: usize = args.get("--starts", if quick { 3 } else { 6 })?;
    let slice = Duration::from_millis(args.get("--slice-ms", 100)?);
    let json: Option<String> = args.find("--json")?;
    args.end()?;
    if rounds == 0 || rounds > 10_000 || slice.is_zero() || slice > Duration::from_secs(10) {
        return Err("--rounds is 1 to 10000, --slice-ms 1 to 10000".into());
    }
    if starts == 0 || !rounds.is_multiple_of(starts) {
        return Err("--rounds is a multiple of --starts".into());
    }

    let mut all = Series::all(&specs);
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    for _ in 0..starts {
        measure(&specs, &plan, rounds / starts, slice, &mut rng, &mut all)?;
    }
    let title = format!(
        "{}, {} connections, {} bytes, pipeline {}, {rounds} rounds of {} ms, {starts} starts",
        plan.workload.name(),
        plan.connections,
        plan.size,
        plan.pipeline,
        slice.as_millis()
    );
    print!("{title}\n\n{}", table(&all, starts));
    if let Some(path) = json {
        std::fs::write(path, to_json(&title, &all))?;
    }
    Ok(())
}

/// Starts all servers, drives them for `rounds`, and ends them.
pub fn measure(
    specs: &[Spec],
    plan: &Plan,
    rounds: usize,
    slice: Duration,
    rng: &mut Rng,
    all: &mut [Series],
) -> Result<()> {
    sys::raise_nofile()?;
    // Before the children, which inherit it until they pin themselves.
    sys::pin(LOAD_CPU)?;
    let mut running = Vec::new();
    for &spec in specs {
        running.push(Server::start(spec, plan.workload)?);
    }
    let mut order: Vec<usize> = (0..specs.len()).collect();
    let targets: Vec<Target> = running.iter().map(Server::target).collect();
    let mut uring = ring::build(load::CQ)?;
    let mut load = Load::new(Ring::over(&mut uring)?, plan, &targets)?;

    let bound = Bound { time: slice, requests: u64::MAX };
    // The first round warms up and is not counted.
    for round in 0..=rounds {
        rng.shuffle(&mut order);
        for &i in &order {
            let settle = SETTLE + Duration::from_micros(specs[i].spin);
            let before = running[i].cpu()?;
            let mut seen = Histogram::new();
            let slice = load.slice(i, bound, &mut seen);
            let slice = slice.map_err(|e| format!("{}: {e}", specs[i]))?;
            std::thread::sleep(settle);
            let cpu = running[i].cpu()?.saturating_sub(before);
            if round > 0 {
                let (requests, wall) = (slice.requests as f64, slice.wall.as_secs_f64());
                all[i].rate.push(requests / wall);
                all[i].cpu.push(cpu.as_secs_f64() * 1e6 / requests);
                all[i].load.push(slice.cpu.as_secs_f64() / wall);
                all[i].p99.push(seen.quantile_us(0.99));
                all[i].seen.merge(&seen);
            }
        }
    }
    drop(load);
    for server in running {
        server.stop()?;
    }
    Ok(())
}

/// The first server of that name, which others are compared with.
fn base<'a>(all: &'a [Series], name: &str) -> Option<&'a Series> {
    all.iter().find(|s| s.name == name)
}

/// The figures of each server, then the ratios to `limit`, to `tokio` and to `tokio-rustls`.
pub fn table(all: &[Series], starts: usize) -> String {
    let mut out = String::new();
    let width = all.iter().map(|s| s.name.len()).max().unwrap_or(0).max(8);
    let _ = writeln!(
        out,
        "{:width$} {:>10} {:>11} {:>9} {:>9} {:>9} {:>9}",
        "server", "req/s", "CPU us/req", "p50 us", "p99 us", "p99.9 us", "load CPU"
    );
    for s in all {
        let (rate, cpu) = (stats::median(&s.rate), stats::median(&s.cpu));
        let _ = write!(out, "{:width$} {rate:>10.0} {cpu:>11.3}", s.name);
        if s.load.is_empty() {
            // wrk's own latencies and CPU time are not taken.
            let _ = writeln!(out, " {0:>9} {0:>9} {0:>9} {0:>9}", "-");
            continue;
        }
        for part in [0.5, 0.99, 0.999] {
            let _ = write!(out, " {:>9.1}", s.seen.quantile_us(part));
        }
        let _ = writeln!(out, " {:>7.0} %", stats::median(&s.load) * 100.0);
    }
    if all.iter().any(|s| stats::median(&s.load) > SATURATED) {
        out.push_str(
            "\nThe load was the bottleneck: req/s is what it can do; CPU/req is the server's own.\n",
        );
    }
    for name in ["limit", "tokio", "tokio-rustls"] {
        let Some(base) = base(all, name) else {
            continue;
        };
        let _ = writeln!(out, "\n{:width$} {:>24} {:>26}", format!("/ {name}"), "req/s", "CPU/req");
        for s in all.iter().filter(|s| s.name != base.name) {
            let _ = write!(out, "{:width$}", s.name);
            for (mine, its) in [(&s.rate, &base.rate), (&s.cpu, &base.cpu)] {
                let e = stats::estimate(&stats::ratios(mine, its), starts);
                let _ = write!(out, "    {:.3} [{:.3}, {:.3}]", e.median, e.low, e.high);
            }
            out.push('\n');
        }
    }
    out
}

/// The same as JSON, with the rounds.
fn to_json(title: &str, all: &[Series]) -> String {
    let list = |values: &[f64]| {
        let texts: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
        texts.join(",")
    };
    let servers: Vec<String> = all
        .iter()
        .map(|s| {
            format!(
                "  {{\"server\":\"{}\",\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\n   \"requests_per_second\":[{}],\n   \"cpu_us_per_request\":[{}],\n   \"load_cpu\":[{}]}}",
                s.name,
                s.seen.quantile_us(0.5),
                s.seen.quantile_us(0.99),
                s.seen.quantile_us(0.999),
                list(&s.rate),
                list(&s.cpu),
                list(&s.load)
            )
        })
        .collect();
    format!("{{\"title\":\"{title}\",\"servers\":[\n{}\n]}}\n", servers.join(",\n"))
}
