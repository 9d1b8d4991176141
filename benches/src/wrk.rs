//! `wrk`: the same interleaving with `wrk` as the load, which sends no bursts.
//!
//! wrk opens its connections anew in each slice and uses the host's congestion control. It takes whole
//! seconds, so rounds are long and the machine drifts more within one.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::child::{LOAD_CPU, Server};
use crate::compare::{servers, table};
use crate::series::Series;
use crate::stats::Rng;
use crate::sys;
use crate::workload::Workload;

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let specs = servers(&mut args, "limit,tokio,limit")?;
    let connections: u32 = args.get("--connections", 50)?;
    let rounds: usize = args.get("--rounds", 5)?;
    let slice = args.get("--slice", "1s".to_string())?;
    args.end()?;
    let seconds: u64 =
        slice.trim_end_matches('s').parse().map_err(|_| "--slice is whole seconds: 1s")?;
    if !(1..=60).contains(&seconds) || !(1..=1000).contains(&rounds) {
        return Err("--slice is 1s to 60s, --rounds 1 to 1000".into());
    }

    let mut running = Vec::new();
    for &spec in &specs {
        running.push(Server::start(spec, Workload::Http)?);
    }
    sys::pin(LOAD_CPU)?;
    let mut all = Series::all(&specs);
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    let mut order: Vec<usize> = (0..specs.len()).collect();
    for _ in 0..rounds {
        rng.shuffle(&mut order);
        for &i in &order {
            let before = running[i].cpu()?;
            let output = load(running[i].port, connections, seconds)?;
            // wrk is gone; its connections' ends are read in less than this.
            std::thread::sleep(Duration::from_millis(20));
            let cpu = running[i].cpu()?.saturating_sub(before);
            all[i].rate.push(field(&output, "Requests/sec:")?);
            all[i].cpu.push(cpu.as_secs_f64() * 1e6 / requests(&output)?);
        }
    }
    println!("wrk -t1 -c{connections} -d{seconds}s, {rounds} rounds\n\n{}", table(&all, 1, "req"));
    for server in running {
        server.stop()?;
    }
    Ok(())
}

fn load(port: u16, connections: u32, seconds: u64) -> Result<String> {
    let child = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")])
        .arg(format!("http://127.0.0.1:{port}/"))
        .stdin(Stdio::null())
        .output();
    match child {
        Ok(out) if out.status.success() => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        Ok(out) => {
            Err(format!("wrk failed: {}", String::from_utf8_lossy(&out.stderr).trim()).into())
        }
        Err(e) => Err(format!(
            "wrk does not run ({e}); install it: `apt install wrk` or `dnf install wrk`"
        )
        .into()),
    }
}

/// The number after `name`.
fn field(output: &str, name: &str) -> Result<f64> {
    let after = output.split(name).nth(1).and_then(|rest| rest.split_whitespace().next());
    let number = after.and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("no `{name}` in the output of wrk:\n{output}").into())
}

/// The number before " requests in".
fn requests(output: &str) -> Result<f64> {
    let before =
        output.split(" requests in").next().and_then(|head| head.split_whitespace().last());
    let number = before.and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("no count of requests in the output of wrk:\n{output}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str =
        "  87014 requests in 1.10s, 4.32MB read\nRequests/sec:  79103.11\nTransfer/sec: 3.92MB\n";

    #[test]
    fn both_numbers_are_found() {
        assert_eq!(requests(OUTPUT).unwrap(), 87014.0);
        assert_eq!(field(OUTPUT, "Requests/sec:").unwrap(), 79103.11);
    }
}
