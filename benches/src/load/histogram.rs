//! Latencies in fixed buckets: 64 to each power of two, so a value is known within 1.6 %.

/// Buckets to a power of two, as bits.
const BITS: u32 = 6;
const SUB: usize = 1 << BITS;
/// Values from 2^40 ns (18 minutes) on share the last bucket.
const POWERS: usize = 40;
const BUCKETS: usize = (POWERS - BITS as usize + 1) * SUB;

/// A count of nanosecond values.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0 }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Counts one value.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.counts[index(ns).min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts.iter()).for_each(|(mine, its)| *mine += its);
        self.total += other.total;
    }

    /// The value that `part` (0 to 1) of all values do not exceed, in microseconds.
    pub fn quantile_us(&self, part: f64) -> f64 {
        let rank = (part * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (i, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return middle(i) / 1e3;
            }
        }
        0.0
    }
}

/// Values below 64 have a bucket each; then each power of two has 64.
#[inline]
fn index(ns: u64) -> usize {
    if ns < SUB as u64 {
        return ns as usize;
    }
    let power = 63 - ns.leading_zeros();
    let sub = (ns >> (power - BITS)) as usize & (SUB - 1);
    (power - BITS + 1) as usize * SUB + sub
}

fn middle(index: usize) -> f64 {
    if index < SUB {
        return index as f64;
    }
    let width = (1u64 << (index / SUB - 1)) as f64;
    (SUB + index % SUB) as f64 * width + width / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_within_its_bucket() {
        for ns in (0..200_000).chain([1 << 30, (1 << 39) + 12_345_678]) {
            let error = (middle(index(ns)) - ns as f64).abs();
            assert!(error <= ns as f64 / 64.0, "{ns}: off by {error}");
        }
    }

    #[test]
    fn quantiles_are_ranks() {
        let mut seen = Histogram::new();
        (1..=1000).for_each(|us| seen.record(us * 1000));
        assert!((seen.quantile_us(0.5) - 500.0).abs() < 8.0);
        assert!((seen.quantile_us(0.99) - 990.0).abs() < 16.0);
    }
}
