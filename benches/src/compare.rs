//! `compare`: servers driven in turn, in short slices, and compared round by round.
//!
//! Every server runs for the whole time with all its connections open; see `series` for the turns. All
//! are started anew a few times: a process keeps the luck of its memory's places for life.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, Server};
use crate::driven::Pace;
use crate::load::{self, Bound, Load, Plan, Target, Tls};
use crate::ring::{self, Ring};
use crate::series::{Series, Turn, in_turn};
use crate::server::Spec;
use crate::stats::{self, Rng};
use crate::sys;
use crate::workload::Workload;

/// A server that has nothing to do sleeps before this is over; added to what it spins.
const SETTLE: Duration = Duration::from_micros(500);

/// What the others are compared with, where it is among them.
const BASES: [&str; 4] = ["limit", "tokio", "haproxy", "tokio-rustls"];

/// A load that computes for more of the time than this is the bottleneck.
pub const SATURATED: f64 = 0.95;

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
    let pace = Pace::read(&mut args)?;
    let json: Option<String> = args.find("--json")?;
    args.end()?;
    let all = measure(&specs, &plan, pace)?;
    let title = format!(
        "{}, {} connections, {} bytes, pipeline {}, {} rounds of {} ms, {} starts",
        plan.workload.name(),
        plan.connections,
        plan.size,
        plan.pipeline,
        pace.rounds,
        pace.slice.as_millis(),
        pace.starts
    );
    print!("{title}\n\n{}", table(&all, pace.starts, "req"));
    if let Some(path) = json {
        std::fs::write(path, to_json(&title, &all))?;
    }
    Ok(())
}

/// The rounds of all servers, which are started anew as often as the pace says.
pub fn measure(specs: &[Spec], plan: &Plan, pace: Pace) -> Result<Vec<Series>> {
    let Pace { rounds, starts, slice } = pace;
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    let mut all = Series::all(specs);
    for _ in 0..starts {
        start(specs, plan, rounds / starts, slice, &mut rng, &mut all)?;
    }
    Ok(all)
}

/// Starts all servers, drives them for `rounds`, and ends them.
fn start(
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
    let targets: Vec<Target> = running.iter().map(Server::target).collect();
    let mut uring = ring::build(load::CQ)?;
    let mut load = Load::new(Ring::over(&mut uring)?, plan, &targets)?;

    let bound = Bound { time: slice, requests: u64::MAX };
    in_turn(all, rounds, rng, |i, seen| {
        let settle = SETTLE + Duration::from_micros(specs[i].spin);
        Turn::take(|| running[i].cpu(), settle, || load.slice(i, bound, seen))
    })?;
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

/// The figures of each server in operations `op`, then the ratios to those of `BASES` that are there.
pub fn table(all: &[Series], starts: usize, op: &str) -> String {
    let mut out = String::new();
    let width = all.iter().map(|s| s.name.len()).max().unwrap_or(0).max(8);
    let _ = writeln!(
        out,
        "{:width$} {:>10} {:>11} {:>9} {:>9} {:>9} {:>9}",
        "server",
        format!("{op}/s"),
        format!("CPU us/{op}"),
        "p50 us",
        "p99 us",
        "p99.9 us",
        "load CPU"
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
            match s.seen.is_empty() {
                true => out.push_str("         -"),
                false => drop(write!(out, " {:>9.1}", s.seen.quantile_us(part))),
            }
        }
        let _ = writeln!(out, " {:>7.0} %", stats::median(&s.load) * 100.0);
    }
    if all.iter().any(|s| stats::median(&s.load) > SATURATED) {
        out.push_str(
            "\nThe load was the bottleneck: the rate is what it can do; the CPU time is the server's own.\n",
        );
    }
    for name in BASES {
        let Some(base) = base(all, name) else {
            continue;
        };
        let _ = writeln!(
            out,
            "\n{:width$} {:>24} {:>26}",
            format!("/ {name}"),
            format!("{op}/s"),
            format!("CPU/{op}")
        );
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
