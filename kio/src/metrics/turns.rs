//! How long the turns of a loop take: a fixed histogram, a bucket a power of two.

use core::time::Duration;

use super::Counter;

/// The first bucket holds what is under 2^10 ns, and each further one twice that.
const FIRST_BITS: u32 = 10;
/// The last bucket holds what the one before it, under 2^32 ns, does not.
const BUCKETS: usize = 24;

/// The histogram as its worker writes it.
pub(crate) struct Turns {
    counts: [Counter; BUCKETS],
    sum: Counter,
    longest: Counter,
}

#[inline(always)]
const fn bucket(ns: u64) -> usize {
    let bits = (u64::BITS - (ns >> FIRST_BITS).leading_zeros()) as usize;
    if bits < BUCKETS { bits } else { BUCKETS - 1 }
}

impl Turns {
    pub(crate) const fn new() -> Self {
        Self {
            counts: [const { Counter::new() }; BUCKETS],
            sum: Counter::new(),
            longest: Counter::new(),
        }
    }

    /// Counts a turn of so many nanoseconds.
    #[inline(always)]
    pub(crate) fn record(&self, ns: u64) {
        self.counts[bucket(ns)].add(1);
        self.sum.add(ns);
        self.longest.peak(ns);
    }

    pub(crate) fn read(&self) -> TurnTimes {
        TurnTimes {
            counts: core::array::from_fn(|i| self.counts[i].get()),
            sum_ns: self.sum.get(),
            longest_ns: self.longest.get(),
        }
    }

    pub(crate) fn clear(&self) {
        self.counts.iter().for_each(|counter| counter.set(0));
        self.sum.set(0);
        self.longest.set(0);
    }
}

/// How long a worker's turns took: from when it could begin one (it woke, or the one before was over)
/// until it had taken the completions and polled the tasks that were ready. So it is what others on the
/// worker had to wait for at most, and the sum is the time that the worker was busy in user space;
/// submitting, which is the kernel's, and sleeping are not in it ([`Stats::cpu_ns`](crate::Stats) has
/// the first).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnTimes {
    counts: [u64; BUCKETS],
    /// Nanoseconds of all turns together.
    pub sum_ns: u64,
    /// Nanoseconds of the longest.
    pub longest_ns: u64,
}

impl TurnTimes {
    /// The buckets, shortest first: how long a turn in it took at most (`None` of the last, which has
    /// no bound), and how many did and were not in the buckets before it. A bound is 1,024 ns, and
    /// twice the one before.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + use<'_> {
        self.counts.iter().enumerate().map(|(i, count)| {
            let bound =
                (i + 1 < BUCKETS).then(|| Duration::from_nanos(1 << (FIRST_BITS + i as u32)));
            (bound, *count)
        })
    }

    /// How many turns.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A time that this part (0 to 1) of the turns did not exceed: the bound of the bucket where it
    /// falls, so up to twice the truth; of the last bucket the longest turn. Zero where there is none.
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = ((self.count() as f64 * part) as u64).max(1);
        let mut seen = 0;
        for (bound, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return bound.unwrap_or(Duration::from_nanos(self.longest_ns));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_in_the_first_bucket_whose_bound_exceeds_it() {
        for ns in [0, 1, 1023, 1024, 1025, 2047, 2048, 1 << 20, (1 << 32) - 1, 1 << 32, u64::MAX] {
            let turns = Turns::new();
            turns.record(ns);
            let times = turns.read();
            let (bound, _) = times.buckets().find(|(_, count)| *count == 1).expect("it is in one");
            assert!(bound.is_none_or(|bound| u128::from(ns) < bound.as_nanos()), "{ns}");
            let fits = |(bound, _): &(Option<Duration>, u64)| {
                bound.is_none_or(|bound| u128::from(ns) < bound.as_nanos())
            };
            assert_eq!(times.buckets().find(fits).map(|(bound, _)| bound), Some(bound), "{ns}");
        }
    }

    #[test]
    fn quantiles_are_bounds_of_what_was_recorded() {
        let turns = Turns::new();
        assert_eq!(turns.read().quantile(0.5), Duration::ZERO);
        (0..99).for_each(|_| turns.record(1500));
        turns.record(1 << 33);
        let times = turns.read();
        assert_eq!(times.quantile(0.5), Duration::from_nanos(2048));
        assert_eq!(times.quantile(0.99), Duration::from_nanos(2048));
        assert_eq!(times.quantile(1.0), Duration::from_nanos(1 << 33));
        assert_eq!((times.count(), times.longest_ns), (100, 1 << 33));
        assert_eq!(times.sum_ns, 99 * 1500 + (1 << 33));
    }
}
