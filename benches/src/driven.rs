//! A child that works by the piece: told a number on its stdin, it does so many operations and tells
//! what they took. Between two orders it sleeps, so several take turns on one CPU.
//!
//! The child measures itself, from the order to the last operation: wall time, the CPU time of the
//! process (all its threads, and the kernel's helpers among them), allocations.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::Result;
use crate::alloc::Count;
use crate::stats::{self, Rng};
use crate::sys;

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

/// One entry's rounds.
pub struct Rounds {
    /// Its name; the second of two alike ends in `#2`.
    pub name: String,
    /// Operations a second, round by round.
    pub rate: Vec<f64>,
    /// CPU time an operation in microseconds, round by round.
    pub cpu: Vec<f64>,
    /// Operations in all.
    pub ops: u64,
    /// Allocations in all, where they are counted.
    pub allocations: Option<u64>,
}

impl Rounds {
    /// One, empty, for each of `names`.
    pub fn all(names: &[&str]) -> Vec<Self> {
        let nth = |i: usize| names[..=i].iter().filter(|name| **name == names[i]).count();
        let name = |i: usize| match nth(i) {
            1 => names[i].to_string(),
            nth => format!("{}#{nth}", names[i]),
        };
        let empty =
            |i| Self { name: name(i), rate: vec![], cpu: vec![], ops: 0, allocations: Some(0) };
        (0..names.len()).map(empty).collect()
    }

    /// Adds a round.
    pub fn add(&mut self, ops: u64, took: Took) {
        self.rate.push(ops as f64 / took.wall.as_secs_f64());
        self.cpu.push(took.cpu.as_secs_f64() * 1e6 / ops as f64);
        self.ops += ops;
        self.allocations = self.allocations.zip(took.allocations).map(|(all, made)| all + made);
    }

    /// Allocations an operation, to be shown.
    pub fn made(&self) -> String {
        let made = self.allocations.map(|made| made as f64 / self.ops as f64);
        made.map_or("-".into(), |made| format!("{made:.4}"))
    }
}

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Rounds in all, and how often the children are started anew among them.
    pub rounds: usize,
    /// Starts.
    pub starts: usize,
    /// About how long a slice is.
    pub slice: Duration,
}

impl Pace {
    /// Reads `--quick`, `--rounds`, `--starts` and `--slice-ms`.
    pub fn read(args: &mut crate::args::Args) -> Result<Self> {
        let quick = args.flag("--quick");
        let pace = Self {
            rounds: args.get("--rounds", if quick { 15 } else { 60 })?,
            starts: args.get("--starts", if quick { 3 } else { 6 })?,
            slice: Duration::from_millis(args.get("--slice-ms", 100)?),
        };
        if pace.starts == 0 || pace.rounds == 0 || !pace.rounds.is_multiple_of(pace.starts) {
            return Err("--rounds is a multiple of --starts, and neither is 0".into());
        }
        Ok(pace)
    }
}

/// Starts every child with `start`, drives them in turn, in random order, and ends them; as often as
/// there are starts. The first round says how many operations a slice of each is, and is not counted.
pub fn interleave(
    all: &mut [Rounds],
    pace: Pace,
    first: u64,
    start: impl Fn(usize) -> Result<Driven>,
) -> Result<()> {
    let mut rng = Rng::new(0x5DEE_CE66_D1CE_4E5B);
    for _ in 0..pace.starts {
        let mut children = (0..all.len()).map(&start).collect::<Result<Vec<_>>>()?;
        let mut counts = Vec::new();
        for child in &mut children {
            let took = child.run(first)?;
            let slice = first as f64 * pace.slice.as_secs_f64() / took.wall.as_secs_f64();
            counts.push((slice as u64).max(1));
        }
        let mut order: Vec<usize> = (0..children.len()).collect();
        for _ in 0..pace.rounds / pace.starts {
            rng.shuffle(&mut order);
            for &i in &order {
                let took = children[i].run(counts[i])?;
                all[i].add(counts[i], took);
            }
        }
        children.into_iter().try_for_each(Driven::end)?;
    }
    Ok(())
}

/// The figures of each entry, then the ratios to each of `bases` that is among them.
pub fn table(all: &[Rounds], bases: &[&str], starts: usize, op: &str) -> String {
    let mut out = String::new();
    let width = all.iter().map(|rounds| rounds.name.len()).max().unwrap_or(0).max(12);
    let _ = writeln!(
        out,
        "{:width$} {:>12} {:>14} {:>14}",
        "",
        format!("{op}s/s"),
        format!("CPU us/{op}"),
        format!("allocs/{op}")
    );
    for rounds in all {
        let (rate, cpu) = (stats::median(&rounds.rate), stats::median(&rounds.cpu));
        let made = rounds.made();
        let _ = writeln!(out, "{:width$} {rate:>12.0} {cpu:>14.3} {made:>14}", rounds.name);
    }
    for name in bases {
        let Some(base) = all.iter().find(|rounds| rounds.name == *name) else { continue };
        let _ = writeln!(
            out,
            "\n{:width$} {:>24} {:>26} {:>26}",
            format!("/ {name}"),
            format!("{op}s/s"),
            format!("CPU/{op}"),
            "CPU us more"
        );
        for rounds in all.iter().filter(|rounds| rounds.name != base.name) {
            let _ = write!(out, "{:width$}", rounds.name);
            let more = rounds.cpu.iter().zip(&base.cpu).map(|(mine, its)| mine - its);
            let compared = [
                stats::ratios(&rounds.rate, &base.rate),
                stats::ratios(&rounds.cpu, &base.cpu),
                more.collect(),
            ];
            for values in compared {
                let e = stats::estimate(&values, starts);
                let _ = write!(out, "    {:.3} [{:.3}, {:.3}]", e.median, e.low, e.high);
            }
            out.push('\n');
        }
    }
    out
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
