//! fio, as the tool that measures disks: its io_uring engine at the same depth, with registered buffers
//! and a registered file, and without its own clocks.
//!
//! It draws its own blocks and looks at none of them. What it took is what it tells, so that its start
//! and its report are not in it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{BLOCK, DEPTH, Job, Orders};
use crate::Result;
use crate::child::SERVER_CPU;
use crate::foreign;

/// It tells whole milliseconds: it is given so many times the reads, and a part of what they took is
/// told on.
const TIMES: u32 = 5;

/// Where it is, or why it cannot be measured.
pub fn find() -> Result<PathBuf> {
    foreign::find("fio").ok_or_else(|| "no `fio` here (`apt install fio`)".into())
}

/// Reads as it is told.
pub fn run(job: &Job) -> Result<()> {
    let exe = find()?;
    let mut orders = Orders::ready()?;
    while let Some(count) = orders.next()? {
        let reads = count * u64::from(TIMES);
        let mut command = Command::new(&exe);
        command
            .args(["--name=reads", "--rw=randread", "--ioengine=io_uring", "--thread"])
            .args(["--fixedbufs", "--registerfiles", "--nonvectored=1", "--gtod_reduce=1"])
            .args(["--norandommap", "--randrepeat=0", "--invalidate=0", "--output-format=json"])
            .arg(format!("--filename={}", job.path.display()))
            .arg(format!("--bs={BLOCK}"))
            .arg(format!("--iodepth={DEPTH}"))
            .arg(format!("--size={}", job.blocks * BLOCK as u64))
            .arg(format!("--io_size={}", reads * BLOCK as u64))
            .arg(format!("--direct={}", u8::from(job.direct)))
            .arg(format!("--cpus_allowed={SERVER_CPU}"));
        let out = command.output()?;
        let told = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() || number(&told, "total_ios")? != reads as f64 {
            let why = String::from_utf8_lossy(&out.stderr);
            return Err(format!("fio did not read all of it: {}", why.trim()).into());
        }
        let part = (number(&told, "usr_cpu")? + number(&told, "sys_cpu")?) / 100.0;
        let [wall, all] = [number(&told, "runtime")?, number(&told, "job_runtime")?]
            .map(|ms| Duration::from_secs_f64(ms / 1e3));
        orders.told(wall / TIMES, all.mul_f64(part) / TIMES)?;
    }
    Ok(())
}

/// The first number of that name in its JSON: those of the reads come first.
fn number(json: &str, name: &str) -> Result<f64> {
    let after = json.split_once(&format!("\"{name}\" : ")).map(|(_, after)| after);
    let digits = after.and_then(|after| after.split([',', '\n']).next());
    let number = digits.and_then(|digits| digits.trim().parse().ok());
    number.ok_or_else(|| format!("fio told no {name}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let told = "\"job_runtime\" : 262,\n\"read\" : {\n\"runtime\" : 263,\n\"iops\" : 1.5\n}";
        assert_eq!(number(told, "runtime").unwrap(), 263.0);
        assert_eq!(number(told, "job_runtime").unwrap(), 262.0);
        assert_eq!(number(told, "iops").unwrap(), 1.5);
        assert!(number(told, "sys_cpu").is_err());
    }
}
