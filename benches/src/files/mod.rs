//! `files`: 4 KiB random reads of a large file at a fixed depth, in each runtime.
//!
//! Every entry reads the same way: `DEPTH` readers, each with a buffer of its own that it uses again,
//! each asking for the next block when it has the last. A block begins with its number, and whoever
//! reads looks, so that a read that did nothing would show.

mod fio;
mod kio;
mod limit;
#[cfg(feature = "peers")]
mod peers;
mod tokio;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::args::Args;
use crate::child::LOAD_CPU;
use crate::count::Profile;
use crate::driven::{self, Dir, Driven, Orders, Pace, Rounds};
use crate::sys;

/// Bytes of a read.
pub const BLOCK: usize = 4096;
/// Reads under way at once.
pub const DEPTH: usize = 64;
/// The two lengths of run under callgrind; the slope is between them.
const SHORT: u64 = 10_000;
const LONG: u64 = 60_000;
/// Reads that tell how many a slice is.
const FIRST: u64 = 5_000;

/// What reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Kio,
    KioFar,
    Limit,
    Tokio,
    Tokio2,
    Fio,
    #[cfg(feature = "peers")]
    Monoio,
    #[cfg(feature = "peers")]
    Compio,
    #[cfg(feature = "peers")]
    Glommio,
}

const ENTRIES: &[(&str, Entry)] = &[
    ("kio", Entry::Kio),
    ("kio-far", Entry::KioFar),
    ("limit", Entry::Limit),
    ("tokio", Entry::Tokio),
    ("tokio-2cpu", Entry::Tokio2),
    ("fio", Entry::Fio),
    #[cfg(feature = "peers")]
    ("monoio", Entry::Monoio),
    #[cfg(feature = "peers")]
    ("compio", Entry::Compio),
    #[cfg(feature = "peers")]
    ("glommio", Entry::Glommio),
];

impl Entry {
    fn find(name: &str) -> Result<Self> {
        let found = ENTRIES.iter().find(|(known, _)| *known == name).map(|(_, entry)| *entry);
        let known: Vec<&str> = ENTRIES.iter().map(|(name, _)| *name).collect();
        found.ok_or_else(|| {
            let hint = "the other runtimes need `--features peers`";
            format!("unknown entry `{name}`: {}; {hint}", known.join(", ")).into()
        })
    }

    fn cpus(self) -> &'static [usize] {
        match self {
            Self::KioFar | Self::Tokio2 => &[0, 1],
            _ => &[0],
        }
    }
}

/// What a child reads.
#[derive(Clone)]
pub struct Job {
    /// The file.
    path: PathBuf,
    /// Its blocks.
    blocks: u64,
    /// Past the page cache.
    direct: bool,
}

impl Job {
    fn open(&self) -> std::io::Result<File> {
        let flags = if self.direct { libc::O_DIRECT } else { 0 };
        OpenOptions::new().read(true).custom_flags(flags).open(&self.path)
    }
}

/// Which block a reader reads next; each has a seed of its own.
#[derive(Clone, Copy)]
pub struct Blocks(u64);

impl Blocks {
    fn new(reader: usize) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ (reader as u64 + 1) << 17)
    }

    #[inline]
    fn next(&mut self, blocks: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        (high * blocks) >> 32
    }
}

/// Whether these bytes are that block.
#[inline]
fn is_block(bytes: &[u8], block: u64) -> bool {
    bytes.len() == BLOCK && bytes.first_chunk() == Some(&block.to_ne_bytes())
}

/// Runs the sub-command.
pub fn run(mut args: Args) -> Result<()> {
    let peers = if cfg!(feature = "peers") { ",monoio,compio,glommio" } else { "" };
    let fio = if fio::find().is_ok() { ",fio" } else { "" };
    let default = format!("limit,kio,kio-far,tokio,tokio-2cpu{peers}{fio},limit");
    let names = args.get("--entries", default)?;
    let names: Vec<&str> = names.split(',').collect();
    let entries = names.iter().map(|name| Entry::find(name)).collect::<Result<Vec<_>>>()?;
    let modes = args.get("--modes", "cached,direct".to_string())?;
    let mib: u64 = args.get("--mib", 1024)?;
    let pace = Pace::read(&mut args)?;
    let count = args.flag("--count");
    let dir = Dir::new(&mut args)?;
    args.end()?;
    let job = Job { path: dir.file("blocks"), blocks: mib << 20 >> 12, direct: false };
    make(&job)?;
    for mode in modes.split(',') {
        let job = Job {
            direct: match mode {
                "cached" => false,
                "direct" => true,
                _ => return Err(format!("unknown mode `{mode}`: cached, direct").into()),
            },
            ..job.clone()
        };
        if count {
            for (name, entry) in names.iter().zip(&entries) {
                match instructions(name, *entry, &job) {
                    Ok(n) => println!("{name}, {mode}: {n:.1} user-space instructions a read"),
                    Err(why) => println!("{name}, {mode}: not from callgrind: {why}"),
                }
            }
            continue;
        }
        let all = compare(&names, &entries, &job, pace)?;
        println!(
            "{mode}: random reads of {BLOCK} bytes of a file of {mib} MiB, depth {DEPTH}, {} rounds of \
             about {} ms, {} starts\n",
            pace.rounds,
            pace.slice.as_millis(),
            pace.starts
        );
        println!("{}", driven::table(&all, &["limit", "kio", "tokio"], pace.starts, "read"));
    }
    Ok(())
}

fn compare(names: &[&str], entries: &[Entry], job: &Job, pace: Pace) -> Result<Vec<Rounds>> {
    sys::pin(LOAD_CPU)?;
    let mut all = Rounds::all(names);
    driven::interleave(&mut all, pace, FIRST, |i| start(&[], names[i], entries[i], job))?;
    Ok(all)
}

/// What the page shows: cached reads of a file of `mib`, by each entry that runs on one CPU and is
/// here.
pub fn cached(dir: &Dir, mib: u64, pace: Pace) -> Result<Vec<Rounds>> {
    let one_cpu = ENTRIES.iter().filter(|(_, entry)| entry.cpus().len() == 1);
    let one_cpu = one_cpu.filter(|(_, entry)| *entry != Entry::Fio || fio::find().is_ok());
    let (mut names, mut entries): (Vec<&str>, Vec<Entry>) = one_cpu.copied().unzip();
    names.push("limit"); // its own control
    entries.push(Entry::Limit);
    let job = Job { path: dir.file("blocks"), blocks: mib << 20 >> 12, direct: false };
    make(&job)?;
    compare(&names, &entries, &job, pace)
}

/// Those that cannot be measured here, and why.
pub fn missing() -> Vec<(String, String)> {
    fio::find().err().map(|why| ("fio".into(), why.to_string())).into_iter().collect()
}

/// Writes the file, through the page cache, where it stays.
fn make(job: &Job) -> Result<()> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(&job.path)?);
    let mut block = [0; BLOCK];
    for number in 0..job.blocks {
        block[..8].copy_from_slice(&number.to_ne_bytes());
        file.write_all(&block)?;
    }
    Ok(file.into_inner()?.sync_all()?)
}

fn start(tool: &[String], name: &str, entry: Entry, job: &Job) -> Result<Driven> {
    let path = job.path.to_str().ok_or("a path of text")?;
    let blocks = job.blocks.to_string();
    let mut args = vec!["read", name, "--file", path, "--blocks", &blocks];
    if job.direct {
        args.push("--direct");
    }
    Driven::start(tool, &args, entry.cpus())
}

/// Instructions of a long run less those of a short one, over the difference of their reads.
fn instructions(name: &str, entry: Entry, job: &Job) -> Result<f64> {
    if entry == Entry::KioFar {
        return Err(
            "valgrind runs one thread at a time, and an enter that sleeps keeps the other \
                    from running"
                .into(),
        );
    }
    if entry == Entry::Fio {
        return Err("fio reads in a process of its own".into());
    }
    let run = |reads| -> Result<u64> {
        let profile = Profile::new(reads)?;
        let mut child = start(&profile.command(), name, entry, job)?;
        child.run(reads)?;
        child.end()?;
        profile.instructions()
    };
    let (short, long) = (run(SHORT)?, run(LONG)?);
    Ok((long as f64 - short as f64) / (LONG - SHORT) as f64)
}

/// The child: reads as it is told.
pub fn child(mut args: Args) -> Result<()> {
    let entry = Entry::find(&args.word("the entry's name")?)?;
    let path: String = args.find("--file")?.ok_or("missing: --file")?;
    let job = Job {
        path: Path::new(&path).into(),
        blocks: args.get("--blocks", 1 << 18)?,
        direct: args.flag("--direct"),
    };
    driven::pin(&mut args)?;
    args.end()?;
    match entry {
        Entry::Kio => kio::run(job),
        Entry::KioFar => kio::run_far(job),
        Entry::Limit => limit::run(&job),
        Entry::Tokio | Entry::Tokio2 => tokio::run(&job),
        Entry::Fio => fio::run(&job),
        #[cfg(feature = "peers")]
        Entry::Monoio => peers::monoio(&job),
        #[cfg(feature = "peers")]
        Entry::Compio => peers::compio(&job),
        #[cfg(feature = "peers")]
        Entry::Glommio => peers::glommio(&job),
    }
}
