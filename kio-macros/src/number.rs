//! Numbers: a literal, a const path or `{ const expression }`, and the unit that may follow it.

use proc_macro2::{Group, Ident, Span, TokenStream};
use quote::ToTokens;
use syn::parse::ParseStream;
use syn::{Error, ExprPath, Lit, Result};

/// A number as it was written.
pub struct Number {
    pub amount: Amount,
    pub unit: Option<Unit>,
    pub span: Span,
}

/// A number without its unit.
pub enum Amount {
    Literal(u64),
    /// A path, or an expression in braces.
    Const(TokenStream),
}

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// So many bytes.
    Size(u64),
    /// So many nanoseconds.
    Time(u64),
}

/// The units by name.
const UNITS: &[(&str, Unit)] = &[
    ("B", Unit::Size(1)),
    ("KiB", Unit::Size(1 << 10)),
    ("MiB", Unit::Size(1 << 20)),
    ("GiB", Unit::Size(1 << 30)),
    ("ns", Unit::Time(1)),
    ("us", Unit::Time(1_000)),
    ("ms", Unit::Time(1_000_000)),
    ("s", Unit::Time(1_000_000_000)),
];

impl Number {
    /// Reads a number and its unit, if one follows.
    pub fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        if input.peek(Lit) {
            let (value, unit) = literal(input)?;
            let unit = match unit {
                Some(unit) => Some(unit),
                None => unit_after(input)?,
            };
            return Ok(Self { amount: Amount::Literal(value), unit, span });
        }
        let amount = if input.peek(syn::token::Brace) {
            Amount::Const(input.parse::<Group>()?.into_token_stream())
        } else if starts_path(input) {
            Amount::Const(input.parse::<ExprPath>()?.into_token_stream())
        } else {
            return Err(input.error("expected a number: a literal, a const, or `{ expression }`"));
        };
        let unit = unit_after(input)?;
        Ok(Self { amount, unit, span })
    }

    /// Reads `N x SIZE`, or a lone number.
    pub fn parse_blocks(input: ParseStream) -> Result<(Self, Option<Self>)> {
        let count = Self::parse(input)?;
        if !is_times(input) {
            return Ok((count, None));
        }
        input.parse::<Ident>()?;
        Ok((count, Some(Self::parse(input)?)))
    }
}

/// Whether a path can begin here.
pub fn starts_path(input: ParseStream) -> bool {
    use syn::Token;
    input.peek(syn::Ident)
        || input.peek(Token![::])
        || input.peek(Token![<])
        || input.peek(Token![crate])
        || input.peek(Token![self])
        || input.peek(Token![super])
        || input.peek(Token![Self])
}

/// An integer literal: its value, and the unit it has for a suffix, as in `16KiB`.
fn literal(input: ParseStream) -> Result<(u64, Option<Unit>)> {
    let lit: Lit = input.parse()?;
    let fail = |text: String| Err(Error::new(lit.span(), text));
    let Lit::Int(int) = &lit else {
        return fail("expected a whole number".into());
    };
    let Ok(value) = int.base10_parse::<u64>() else {
        return fail("the number is larger than any that fits (64 bits)".into());
    };
    let suffix = int.suffix();
    match unit(suffix) {
        _ if suffix.is_empty() => Ok((value, None)),
        Some(unit) => Ok((value, Some(unit))),
        None if is_glued_times(suffix) => {
            let unit =
                input.fork().parse::<Ident>().map_or(String::new(), |unit| format!(" {unit}"));
            fail(format!("`x` stands between spaces: `{value} x {}{unit}`", &suffix[1..]))
        }
        None => fail(unknown_unit(suffix)),
    }
}

/// The unit that follows a number, with a space before it.
fn unit_after(input: ParseStream) -> Result<Option<Unit>> {
    if !input.peek(syn::Ident) || is_times(input) {
        return Ok(None);
    }
    let word: Ident = input.parse()?;
    let text = word.to_string();
    match unit(&text) {
        Some(unit) => Ok(Some(unit)),
        None if is_glued_times(&text) => {
            Err(Error::new(word.span(), format!("`x` stands between spaces: `x {}`", &text[1..])))
        }
        None => Err(Error::new(word.span(), unknown_unit(&text))),
    }
}

fn unit(word: &str) -> Option<Unit> {
    UNITS.iter().find(|(name, _)| *name == word).map(|(_, unit)| *unit)
}

fn unknown_unit(word: &str) -> String {
    let hint = match word {
        "b" | "bytes" => ": did you mean `B`?",
        "K" | "k" | "KB" | "kB" | "kb" | "Kib" | "kib" => ": did you mean `KiB`?",
        "M" | "MB" | "mb" | "Mib" | "mib" => ": did you mean `MiB`?",
        "G" | "GB" | "gb" | "Gib" | "gib" => ": did you mean `GiB`?",
        "sec" | "secs" | "second" | "seconds" => ": did you mean `s`?",
        "millis" | "msec" => ": did you mean `ms`?",
        "micros" | "usec" => ": did you mean `us`?",
        _ => ": the units are B, KiB, MiB, GiB, and ns, us, ms, s",
    };
    format!("unknown unit `{word}`{hint}")
}

/// Whether the `x` of `N x SIZE` is next.
fn is_times(input: ParseStream) -> bool {
    input.fork().parse::<Ident>().is_ok_and(|word| word == "x")
}

/// Whether a word is an `x` with what should stand apart from it: the `x16` of `2048x16`.
fn is_glued_times(word: &str) -> bool {
    word.strip_prefix('x')
        .is_some_and(|rest| rest.chars().next().is_none_or(|c| c.is_ascii_digit()))
}
