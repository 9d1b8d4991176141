//! A server as a child process: started, found ready, looked at through /proc, and surely ended.
//!
//! Only children started here are ever signalled, by their pid while they are not yet reaped. A child
//! also dies with its parent, whatever ends that.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::Result;
use crate::load::Target;
use crate::server::Spec;
use crate::server::kio::YIELD;
use crate::workload::Workload;

/// The CPU of the servers.
pub const SERVER_CPU: usize = 0;
/// The CPU of the load.
pub const LOAD_CPU: usize = 1;

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
    tls: bool,
}

/// What a server prints when it ends.
#[derive(Clone, Copy, Default, Debug)]
pub struct Report {
    /// Allocations since it was ready.
    pub allocations: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Requests it answered.
    pub requests: u64,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// VmRSS: with pages shared with others, such as the binary's.
    pub resident: u64,
    /// Pages that are this process's alone.
    pub private: u64,
}

impl Server {
    /// Starts `spec` and waits until it listens.
    pub fn start(spec: Spec, workload: Workload) -> Result<Self> {
        Self::start_under(&[], spec, workload, Duration::from_secs(10))
    }

    /// The same under a tool, which must replace itself by the server or run it in its own process.
    pub fn start_under(
        tool: &[&str],
        spec: Spec,
        workload: Workload,
        limit: Duration,
    ) -> Result<Self> {
        let exe = std::env::current_exe()?;
        let mut command = match tool {
            [] => Command::new(&exe),
            [name, rest @ ..] => {
                let mut command = Command::new(name);
                command.args(rest).arg(&exe);
                command
            }
        };
        command
            .args(["serve", &spec.to_string(), "--workload", workload.name(), "--port", "0"])
            .args(["--cpu", &SERVER_CPU.to_string()])
            .envs(tool.first().filter(|name| **name == "valgrind").map(|_| (YIELD, "1")));
        let mut server = Self::spawn(command, &spec.to_string(), limit)?;
        server.tls = spec.kind.speaks_tls();
        Ok(server)
    }

    /// Starts `kio-bench ARGS`, a server that tells its port as the others do.
    pub fn start_as(args: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Self::spawn(command, &args.join(" "), Duration::from_secs(10))
    }

    fn spawn(mut command: Command, name: &str, limit: Duration) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec this makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut server = Self { child: command.spawn()?, port: 0, tls: false };
        server.port = server.await_ready(limit).map_err(|e| format!("{name}: {e}"))?;
        Ok(server)
    }

    fn await_ready(&mut self, limit: Duration) -> Result<u16> {
        let out = self.child.stdout.take().expect("stdout is piped");
        let (sender, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut first = String::new();
            let _ = BufReader::new(out).read_line(&mut first);
            let _ = sender.send(first);
        });
        let line = line.recv_timeout(limit).map_err(|_| "not ready in time")?;
        match line.trim().strip_prefix("ready ").and_then(|port| port.parse().ok()) {
            Some(port) => Ok(port),
            None => {
                self.end();
                Err(format!("did not start: {}", self.stderr().trim()).into())
            }
        }
    }

    /// What loads it.
    pub fn target(&self) -> Target {
        Target { port: self.port, tls: self.tls }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads. Exact when it sleeps: a running thread's is that of the last tick.
    pub fn cpu(&self) -> io::Result<Duration> {
        cpu_of(self.pid())
    }

    /// Its resident memory.
    pub fn memory(&self) -> io::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let private = kib(&rollup, "Private_Clean:") + kib(&rollup, "Private_Dirty:");
        Ok(Memory { resident: kib(&status, "VmRSS:") * 1024, private: private * 1024 })
    }

    /// Ends it by SIGTERM and returns its report.
    pub fn stop(mut self) -> Result<Report> {
        self.end();
        let text = self.stderr();
        let field = |name: &str| {
            let from = text
                .find(name)
                .ok_or_else(|| format!("no report from the server: {}", text.trim()))?;
            let digits = text[from + name.len()..].chars().take_while(char::is_ascii_digit);
            digits.collect::<String>().parse::<u64>().map_err(|e| e.to_string())
        };
        Ok(Report {
            allocations: field("allocations=")?,
            bytes: field("bytes=")?,
            requests: field("requests=")?,
        })
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut err) = self.child.stderr.take() {
            let _ = err.read_to_string(&mut text);
        }
        text
    }

    /// SIGTERM, and SIGKILL when that has not ended it in ten seconds.
    fn end(&mut self) {
        let pid = Pid::from_child(&self.child);
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = kill_process(pid, Signal::TERM);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// CPU time of all threads of a process; see [`Server::cpu`].
pub fn cpu_of(pid: u32) -> io::Result<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}
