//! haproxy in TCP mode, one thread, splicing where it thinks that right.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::Result;
use crate::child::SERVER_CPU;
use crate::sys;

/// The descriptor by which it inherits its listener.
const INHERITED: i32 = 100;

/// A running haproxy.
pub struct Haproxy {
    child: Child,
    conf: std::path::PathBuf,
    /// Where it listens.
    pub port: u16,
}

impl Haproxy {
    /// Starts it before that upstream.
    pub fn start(exe: &str, upstream: u16) -> Result<Self> {
        let listener = TcpListener::from(sys::listen(0)?);
        sys::reno(std::os::fd::AsFd::as_fd(&listener));
        let port = listener.local_addr()?.port();
        let conf = std::env::temp_dir().join(format!("kio-bench-haproxy-{port}.cfg"));
        std::fs::write(
            &conf,
            format!(
                "global\n nbthread 1\n maxconn 1000\n tune.pipesize 1048576\n\
                 defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n\
                 \x20option splice-auto\n\
                 listen relay\n bind fd@{INHERITED}\n server up 127.0.0.1:{upstream}\n"
            ),
        )?;
        let mut command = Command::new("taskset");
        command.args(["-c", &SERVER_CPU.to_string(), exe, "-db", "-q", "-f"]).arg(&conf);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let fd = listener.as_raw_fd();
        // SAFETY: between fork and exec this makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                match libc::dup2(fd, INHERITED) {
                    0.. => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().map_err(|e| {
            format!("{exe} does not run ({e}); `apt install haproxy`, or --haproxy PATH")
        })?;
        Ok(Self { child, conf, port })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_file(&self.conf);
    }
}
