//! What servers did in their turns, slice by slice, and how the turns are taken.
//!
//! All run for the whole time; one is driven at a time, in an order that is shuffled each round. Between
//! two slices the server falls asleep, so that its CPU time is exact.

use std::io;
use std::time::Duration;

use crate::Result;
use crate::load::Slice;
use crate::load::histogram::Histogram;
use crate::stats::Rng;

/// One server's rounds.
pub struct Series {
    /// Its name; the second of two alike ends in `#2`.
    pub name: String,
    /// Operations (requests, MiB) a second, round by round.
    pub rate: Vec<f64>,
    /// Its CPU time an operation in microseconds, round by round.
    pub cpu: Vec<f64>,
    /// CPU time of the load over wall time, round by round.
    pub load: Vec<f64>,
    /// The 99th percentile of the latencies in microseconds, round by round.
    pub p99: Vec<f64>,
    /// Latencies of all rounds; none where operations have none.
    pub seen: Histogram,
}

impl Series {
    /// Empty, for `name` as the `nth` of its name.
    pub fn new(name: &str, nth: usize) -> Self {
        let name = if nth == 1 { name.to_string() } else { format!("{name}#{nth}") };
        Self { name, rate: vec![], cpu: vec![], load: vec![], p99: vec![], seen: Histogram::new() }
    }

    /// One for each of `names`.
    pub fn all<T: ToString>(names: &[T]) -> Vec<Self> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let nth = |i: usize| names[..=i].iter().filter(|name| **name == names[i]).count();
        names.iter().enumerate().map(|(i, name)| Self::new(name, nth(i))).collect()
    }

    fn add(&mut self, turn: &Turn, seen: &Histogram) {
        let (ops, wall) = (turn.slice.ops, turn.slice.wall.as_secs_f64());
        self.rate.push(ops / wall);
        self.cpu.push(turn.cpu.as_secs_f64() * 1e6 / ops);
        self.load.push(turn.slice.cpu.as_secs_f64() / wall);
        self.p99.push(seen.quantile_us(0.99));
        self.seen.merge(seen);
    }
}

/// What one slice was, and the CPU time that the server spent on it.
pub struct Turn {
    slice: Slice,
    cpu: Duration,
}

impl Turn {
    /// Drives a server for a slice, then lets it fall asleep.
    pub fn take(
        cpu: impl Fn() -> io::Result<Duration>,
        settle: Duration,
        slice: impl FnOnce() -> Result<Slice>,
    ) -> Result<Self> {
        let before = cpu()?;
        let slice = slice()?;
        std::thread::sleep(settle);
        Ok(Self { slice, cpu: cpu()?.saturating_sub(before) })
    }
}

/// Lets each have its turn for so many rounds; the first one warms up and is not counted.
pub fn in_turn(
    all: &mut [Series],
    rounds: usize,
    rng: &mut Rng,
    mut drive: impl FnMut(usize, &mut Histogram) -> Result<Turn>,
) -> Result<()> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    for round in 0..=rounds {
        rng.shuffle(&mut order);
        for &i in &order {
            let mut seen = Histogram::new();
            let turn = drive(i, &mut seen).map_err(|e| format!("{}: {e}", all[i].name))?;
            if round > 0 {
                all[i].add(&turn, &seen);
            }
        }
    }
    Ok(())
}
