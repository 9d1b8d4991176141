//! A server that is not ours (nginx, haproxy): started on the servers' CPU with a listener that it
//! inherits, measured with all its processes, and surely ended.
//!
//! The listener is made here so that its port is known, and so that it has the congestion control of the
//! others'.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;
use crate::child::{SERVER_CPU, Server, cpu_of};
use crate::sys;

/// The descriptor by which it inherits its listener.
pub const INHERITED: i32 = 100;

/// A running one.
pub struct Foreign {
    child: Child,
    dir: PathBuf,
    /// Where it listens.
    pub port: u16,
}

impl Foreign {
    /// Starts what `command` makes of a directory of its own below `dir` and a port. What the server
    /// has to say it says there.
    pub fn start(
        dir: &Path,
        name: &str,
        command: impl FnOnce(&Path, u16) -> io::Result<Command>,
    ) -> Result<Self> {
        let listener = TcpListener::from(sys::listen(0)?);
        sys::reno(listener.as_fd());
        let port = listener.local_addr()?.port();
        let dir = dir.join(format!("{name}-{port}"));
        fs::create_dir(&dir)?;
        let mut command = command(&dir, port)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(said(&dir))?);
        let fd = listener.as_raw_fd();
        let mut cpu = CpuSet::new();
        cpu.set(SERVER_CPU);
        // SAFETY: between fork and exec this makes three system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::TERM))?;
                sched_setaffinity(None, &cpu)?;
                match libc::dup2(fd, INHERITED) {
                    0.. => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().map_err(|e| format!("{name} does not run: {e}"))?;
        Ok(Self { child, dir, port })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // Its workers end with it.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A server that is measured, ours or not.
pub enum Running {
    /// A child of this program.
    Ours(Server),
    /// Another program.
    Foreign(Foreign),
}

impl Running {
    /// Where it listens.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ours(server) => server.port,
            Self::Foreign(foreign) => foreign.port,
        }
    }

    /// CPU time of all its threads and processes.
    pub fn cpu(&self) -> io::Result<Duration> {
        match self {
            Self::Ours(server) => server.cpu(),
            Self::Foreign(foreign) => cpu_of_all(foreign.child.id()),
        }
    }

    /// What it said before it failed, if that is kept.
    pub fn said(&self) -> String {
        match self {
            Self::Ours(_) => String::new(),
            Self::Foreign(foreign) => {
                fs::read_to_string(said(&foreign.dir)).unwrap_or_default().trim().to_string()
            }
        }
    }

    /// Ends it; how often it allocated, where that is known.
    pub fn stop(self) -> Result<Option<u64>> {
        match self {
            Self::Ours(server) => Ok(Some(server.stop()?.allocations)),
            Self::Foreign(_) => Ok(None),
        }
    }
}

fn said(dir: &Path) -> PathBuf {
    dir.join("stderr")
}

/// CPU time of a process and of its descendants.
fn cpu_of_all(pid: u32) -> io::Result<Duration> {
    let mut total = cpu_of(pid)?;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(task?.path().join("children"))?;
        for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
            total += cpu_of_all(child)?;
        }
    }
    Ok(total)
}

/// Where a program is: as it is called, or where Debian has servers, which is not in every user's
/// PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&dirs).chain(["/usr/sbin".into()]);
    if name.contains('/') {
        return Some(name.into()).filter(|path: &PathBuf| path.is_file());
    }
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// nginx with one worker, of this module if one is named, and with the configuration that `conf` makes
/// of its directory and port. (In one process it does not take a listener over.)
pub fn nginx(
    dir: &Path,
    exe: &Path,
    module: Option<&Path>,
    conf: impl FnOnce(&Path, u16) -> String,
) -> Result<Foreign> {
    Foreign::start(dir, "nginx", |dir, port| {
        let path = dir.join("nginx.conf");
        let module = module.map(|path| format!("load_module {};\n", path.display()));
        fs::write(
            &path,
            format!(
                "{}daemon off; worker_processes 1; user root;\n\
                 pid {}/nginx.pid; error_log stderr crit;\n\
                 events {{ worker_connections 1024; }}\n{}",
                module.unwrap_or_default(),
                dir.display(),
                conf(dir, port)
            ),
        )?;
        let mut command = Command::new(exe);
        command.arg("-p").arg(dir).arg("-c").arg(&path).env("NGINX", format!("{INHERITED};"));
        Ok(command)
    })
}
