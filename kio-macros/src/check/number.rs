//! Numbers against what their key counts, and the range it allows.

use std::ops::RangeInclusive;

use proc_macro2::{Span, TokenStream};
use syn::{Error, Result};

use crate::number::{Amount, Number, Unit};

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Count,
    Bytes,
    Time,
}

/// A number in the unit of its field: items, bytes or nanoseconds.
#[derive(Clone)]
pub struct Quantity {
    /// What it is the value of.
    pub key: String,
    pub amount: Known,
    /// What it may be; a known value is.
    pub range: RangeInclusive<u64>,
    pub span: Span,
}

/// What is known of a number before const evaluation.
#[derive(Clone)]
pub enum Known {
    /// All.
    Value(u64),
    /// It is this integer, times a factor.
    Integer { expr: TokenStream, factor: u64 },
    /// It is this `Duration`, in nanoseconds.
    Duration { expr: TokenStream },
}

/// So many slots of such a size.
pub struct Blocks {
    pub count: Quantity,
    pub size: Quantity,
}

impl Quantity {
    /// Reads a number as what its key counts, and holds a literal against the range.
    pub fn of(
        key: &str,
        number: Number,
        measure: Measure,
        range: RangeInclusive<u64>,
    ) -> Result<Self> {
        let span = number.span;
        let fail = |text| Err(Error::new(span, text));
        let factor = match (measure, number.unit) {
            (Measure::Bytes, Some(Unit::Size(factor))) => Some(factor),
            (Measure::Time, Some(Unit::Time(factor))) => Some(factor),
            (_, None) => None,
            (Measure::Count, Some(_)) => {
                return fail(format!("`{key}` is a count, without a unit"));
            }
            (Measure::Bytes, Some(_)) => {
                return fail(format!("`{key}` is a size: B, KiB, MiB or GiB"));
            }
            (Measure::Time, Some(_)) => return fail(format!("`{key}` is a time: ns, us, ms or s")),
        };
        let amount = match (number.amount, factor) {
            (Amount::Const(expr), None) if measure == Measure::Time => Known::Duration { expr },
            (Amount::Const(expr), _) => Known::Integer { expr, factor: factor.unwrap_or(1) },
            (Amount::Literal(1..), None) if measure != Measure::Count => {
                let (what, units) = match measure {
                    Measure::Time => ("time", "ns, us, ms or s"),
                    _ => ("size", "B, KiB, MiB or GiB"),
                };
                return fail(format!("a {what} has a unit: {units}"));
            }
            (Amount::Literal(n), _) => match n.checked_mul(factor.unwrap_or(1)) {
                Some(value) if range.contains(&value) => Known::Value(value),
                Some(value) if value < *range.start() => {
                    let least = text(measure, *range.start());
                    return fail(format!("`{key}` must be at least {least}"));
                }
                _ => {
                    let most = text(measure, *range.end());
                    return fail(format!("`{key}` must be at most {most}"));
                }
            },
        };
        Ok(Self { key: key.into(), amount, range, span })
    }

    /// The value, where it is a literal.
    pub fn value(&self) -> Option<u64> {
        match self.amount {
            Known::Value(value) => Some(value),
            _ => None,
        }
    }
}

/// A number as a person writes it.
fn text(measure: Measure, value: u64) -> String {
    let units: &[(u64, &str)] = match measure {
        Measure::Count => &[],
        Measure::Bytes => &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")],
        Measure::Time => &[(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")],
    };
    let whole = units.iter().find(|(unit, _)| value >= *unit && value.is_multiple_of(*unit));
    whole.map_or_else(|| value.to_string(), |(unit, name)| format!("{} {name}", value / unit))
}
