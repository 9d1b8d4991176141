//! The tools that count: `perf stat` and `strace` beside a running server, callgrind around one.
//!
//! A tool that is missing or refused is an error with its remedy; the other figures are still printed.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// How long a tool may take to attach or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tool that watches a process from beside it.
pub trait Tracer: Sized {
    /// What it tells at the end.
    type Seen;
    /// Starts it on `pid` and returns once it is attached.
    fn attach(pid: u32) -> Result<Self>;
    /// Detaches it.
    fn finish(self) -> Result<Self::Seen>;
}

/// The number of system calls, by `perf stat -e raw_syscalls:sys_enter`.
pub struct Perf(Tool);

impl Tracer for Perf {
    type Seen = f64;

    fn attach(pid: u32) -> Result<Self> {
        let mut command = Command::new("perf");
        command.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()]);
        let tool = Tool::start(
            command,
            "`apt install linux-perf`, and root or kernel.perf_event_paranoid=-1",
        )?;
        // perf says nothing when it is attached; a tracepoint takes a few milliseconds.
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self(tool))
    }

    fn finish(self) -> Result<f64> {
        let text = self.0.end()?;
        let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"));
        let count = line.and_then(|line| line.split(',').next()).and_then(|n| n.parse().ok());
        count.ok_or_else(|| format!("no count from perf: {}", text.trim()).into())
    }
}

/// The system calls by name, by `strace -c -f`.
pub struct Strace(Tool);

impl Tracer for Strace {
    type Seen = String;

    fn attach(pid: u32) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args([
            "-c",
            "-f",
            "-U",
            "name,calls,errors",
            "-S",
            "calls",
            "-p",
            &pid.to_string(),
        ]);
        let tool = Tool::start(
            command,
            "`apt install strace`, and root or the same user with ptrace allowed",
        )?;
        let until = Instant::now() + PATIENCE;
        while !traced(pid) {
            if Instant::now() >= until {
                return Err("strace did not attach".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self(tool))
    }

    fn finish(self) -> Result<String> {
        let text = self.0.end()?;
        let from =
            text.find("syscall").ok_or_else(|| format!("no table from strace: {}", text.trim()))?;
        Ok(text[from..].trim_end().to_string())
    }
}

fn traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}

/// A child that is ended by SIGINT and tells what it saw on stderr.
struct Tool(Child);

impl Tool {
    fn start(mut command: Command, remedy: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        child.map(Self).map_err(|e| format!("does not run ({e}); needs {remedy}").into())
    }

    fn end(mut self) -> Result<String> {
        let mut err = self.0.stderr.take().expect("stderr is piped");
        self.interrupt();
        let mut text = String::new();
        err.read_to_string(&mut text)?;
        Ok(text)
    }

    fn interrupt(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.interrupt();
    }
}

/// Where callgrind leaves its count; removed on drop.
pub struct Profile(PathBuf);

impl Profile {
    /// A place of its own for the run of `requests`.
    pub fn new(requests: u64) -> Result<Self> {
        let found = Command::new("valgrind").arg("--version").output();
        found.map_err(|e| format!("valgrind does not run ({e}); needs `apt install valgrind`"))?;
        let name = format!("kio-bench.{}.{requests}.callgrind", std::process::id());
        Ok(Self(std::env::temp_dir().join(name)))
    }

    /// What to put before the server's command.
    pub fn command(&self) -> Vec<String> {
        let out = format!("--callgrind-out-file={}", self.0.display());
        ["valgrind", "--tool=callgrind", "--quiet", &out].map(String::from).to_vec()
    }

    /// The count, once the server has ended.
    pub fn instructions(&self) -> Result<u64> {
        let text = fs::read_to_string(&self.0)?;
        let total = text.lines().find_map(|line| {
            line.strip_prefix("summary: ")
                .or_else(|| line.strip_prefix("totals: "))?
                .trim()
                .parse()
                .ok()
        });
        total.ok_or_else(|| "callgrind left no total".into())
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
