//! Medians, and how sure one can be of them.
//!
//! The machine drifts by 10 to 30 % within a minute, so servers are compared round by round: the ratio
//! of two slices that lie side by side, then the median over the rounds. The interval is a bootstrap:
//! starts and their rounds drawn with replacement, 2000 times, and the middle 95 % of those medians.

/// How often the rounds are drawn anew.
const RESAMPLES: usize = 2000;

/// A small generator of random numbers (xorshift64*), seeded alike in each run.
pub struct Rng(u64);

impl Rng {
    /// A generator; `seed` must not be 0.
    pub fn new(seed: u64) -> Self {
        assert_ne!(seed, 0);
        Self(seed)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        (high as usize * n) >> 32
    }

    /// Puts `items` in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// The median of the values.
    pub median: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where the interval ends.
    pub high: f64,
}

/// The median of `values`; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    middle(&sorted)
}

fn middle(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The median of `values` and its bootstrap interval.
///
/// The values come in `groups` of equal length, one a start of the servers. Groups are drawn first, then
/// rounds within each, since rounds of one start share its luck.
pub fn estimate(values: &[f64], groups: usize) -> Estimate {
    let mut rng = Rng::new(0x9E37_79B9_7F4A_7C15);
    let length = values.len() / groups;
    let mut draw = Vec::with_capacity(values.len());
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            draw.clear();
            for _ in 0..groups {
                let from = rng.below(groups) * length;
                draw.extend((0..length).map(|_| values[from + rng.below(length)]));
            }
            draw.sort_unstable_by(f64::total_cmp);
            middle(&draw)
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| medians[(part * (RESAMPLES - 1) as f64).round() as usize];
    Estimate { median: median(values), low: at(0.025), high: at(0.975) }
}

/// `a[i] / b[i]`, round by round.
pub fn ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_its_median() {
        let values: Vec<f64> = (0..60).map(|i| 1.0 + f64::from(i % 7) / 100.0).collect();
        let e = estimate(&values, 1);
        assert!(e.low <= e.median && e.median <= e.high);
        assert!(e.low > 1.0 && e.high < 1.06);
    }

    #[test]
    fn what_differs_between_starts_widens_the_interval() {
        let values: Vec<f64> = (0..60).map(|i| 1.0 + f64::from(i / 10) / 100.0).collect();
        let (one, six) = (estimate(&values, 1), estimate(&values, 6));
        assert!(six.high - six.low > one.high - one.low);
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<usize> = (0..10).collect();
        Rng::new(7).shuffle(&mut items);
        items.sort_unstable();
        assert_eq!(items, (0..10).collect::<Vec<_>>());
    }
}
