//! A child that works by the piece: told a number on its stdin, it does so many operations and tells
//! what they took. Between two orders it sleeps, so several take turns on one CPU.
//!
//! The child measures itself, from the order to the last operation: wall time, the CPU time of the
//! process (all its threads, and the kernel's helpers among them), allocations.

mod rounds;

use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::Result;
use crate::alloc::Count;
use crate::sys;
pub use rounds::{Pace, Rounds, interleave, table};

/// The child's end: what it is told to do.
pub struct Orders {
    began: Instant,
    cpu: Duration,
    made: Count,
}

impl Orders {
    /// Tells the parent that the child is ready.
    pub fn ready() -> io::Result<Self> {
        say("ready")?;
        Ok(Self { began: Instant::now(), cpu: Duration::ZERO, made: Count::default() })
    }

    /// Waits, blocking the thread, for the next number of operations; `None` is the end. What they
    /// take is measured from here.
    pub fn next(&mut self) -> io::Result<Option<u64>> {
        let mut line = [0u8; 32];
        let mut len = 0;
        // Byte by byte, and no buffer that would allocate between the slices.
        while len < line.len() {
            match rustix::io::read(rustix::stdio::stdin(), &mut line[len..=len])? {
                0 => return Ok(None),
                _ if line[len] == b'\n' => break,
                _ => len += 1,
            }
        }
        let told = std::str::from_utf8(&line[..len]).ok().and_then(|text| text.parse().ok());
        let count = told.ok_or_else(|| io::Error::other("an order is a number"))?;
        self.made = Count::now();
        self.cpu = sys::cpu_time();
        self.began = Instant::now();
        Ok(Some(count))
    }

    /// They are done: tells what they took.
    pub fn done(&self) -> io::Result<()> {
        let wall = self.began.elapsed().as_nanos();
        let cpu = sys::cpu_time().saturating_sub(self.cpu).as_nanos();
        let made = Count::now().since(self.made).calls;
        say(&format!("{wall} {cpu} {made}"))
    }

    /// They are done by another program, which says itself what they took, but not its allocations.
    pub fn told(&self, wall: Duration, cpu: Duration) -> io::Result<()> {
        say(&format!("{} {}", wall.as_nanos(), cpu.as_nanos()))
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// What some operations took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// From the order to the last operation.
    pub wall: Duration,
    /// CPU time of the process.
    pub cpu: Duration,
    /// Allocations, where they are counted.
    pub allocations: Option<u64>,
}

/// A running child. It ends when its stdin closes, and is killed if it does not.
pub struct Driven {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl Driven {
    /// Starts `kio-bench ARGS` on some CPUs, under a tool if one is given, and waits until it is
    /// ready.
    pub fn start(tool: &[String], args: &[&str], cpus: &[usize]) -> Result<Self> {
        let exe = std::env::current_exe()?;
        let mut words: Vec<&std::ffi::OsStr> = tool.iter().map(AsRef::as_ref).collect();
        words.push(exe.as_os_str());
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(args)
            .args(["--cpus", &cpus.iter().map(usize::to_string).collect::<Vec<_>>().join("+")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: between fork and exec this makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut driven = Self { child, orders, answers, name: args.join(" ") };
        match driven.answer()?.as_str() {
            "ready" => Ok(driven),
            _ => Err(format!("{}: did not start", driven.name).into()),
        }
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_string())
    }

    /// Has it do `count` operations.
    pub fn run(&mut self, count: u64) -> Result<Took> {
        let orders = self.orders.as_mut().ok_or("it was ended")?;
        writeln!(orders, "{count}")?;
        let line = self.answer()?;
        let mut numbers = line.split(' ').filter_map(|word| word.parse::<u64>().ok());
        let mut number = || numbers.next().ok_or_else(|| format!("{}: it ended", self.name));
        Ok(Took {
            wall: Duration::from_nanos(number()?),
            cpu: Duration::from_nanos(number()?),
            allocations: number().ok(),
        })
    }

    /// Ends it.
    pub fn end(mut self) -> Result<()> {
        self.orders = None;
        match self.child.wait()? {
            status if status.success() => Ok(()),
            status => Err(format!("{}: {status}", self.name).into()),
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.orders = None;
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A directory of its own on the disk, gone at the end.
pub struct Dir(PathBuf);

impl Dir {
    /// Makes one below `--dir`, or below the system's for temporary files.
    pub fn new(args: &mut crate::args::Args) -> Result<Self> {
        let base: Option<PathBuf> = args.find::<String>("--dir")?.map(Into::into);
        let base = base.unwrap_or_else(std::env::temp_dir);
        let dir = base.join(format!("kio-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    /// Where a file of that name is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reads `--cpus 0+1` in a child and stays on them.
pub fn pin(args: &mut crate::args::Args) -> Result<()> {
    let cpus = args.get("--cpus", crate::child::SERVER_CPU.to_string())?;
    let cpus: Vec<usize> = cpus.split('+').map(str::parse).collect::<Result<_, _>>()?;
    Ok(sys::pin_to(&cpus)?)
}
