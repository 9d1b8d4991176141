//! A line of `routes`: a pattern or `_`, and the worker that opens what it matches.

use proc_macro2::Span;
use syn::parse::ParseStream;
use syn::{Ident, Lit, LitStr, Result, Token, parenthesized, token};

use crate::errors::Errors;
use crate::number::{Number, starts_path};
use crate::parse::skip_until;

/// A line as it was written.
pub struct Route {
    /// None is `_`.
    pub pattern: Option<LitStr>,
    pub target: Target,
    /// Where the pattern is.
    pub span: Span,
}

/// The worker that a line sends to.
pub enum Target {
    Worker(Number),
    /// `hash`.
    Hash,
    /// `hash(1..4)`, or `hash(1..=3)` with `inclusive`.
    HashOf {
        first: Number,
        end: Number,
        inclusive: bool,
        /// Where the word `hash` is.
        span: Span,
    },
}

const WORKER: &str = "a worker: its number, `hash` or `hash(1..4)`";

impl Route {
    /// Reads `pattern => target`.
    pub fn parse(input: ParseStream, errors: &mut Errors) -> Result<Self> {
        let span = input.span();
        let pattern = if input.peek(LitStr) {
            Some(input.parse()?)
        } else if input.parse::<Option<Token![_]>>()?.is_some() {
            None
        } else {
            let text = "expected a pattern, as in \"wal/*\", or `_` for every path";
            return Err(input.error(text));
        };
        if !input.peek(Token![=>]) {
            return Err(input.error(format!("expected `=>` and {WORKER}")));
        }
        input.parse::<Token![=>]>()?;
        Ok(Self { pattern, target: Target::parse(input, errors)?, span })
    }
}

impl Target {
    fn parse(input: ParseStream, errors: &mut Errors) -> Result<Self> {
        let (ahead, span) = (input.fork(), input.span());
        // `hash::N` is the path of a const.
        let hash = ahead.parse::<Ident>().is_ok_and(|word| word == "hash");
        if !hash || ahead.peek(Token![::]) {
            let number = input.peek(Lit) || input.peek(token::Brace) || starts_path(input);
            return match number {
                true => Number::parse(input).map(Self::Worker),
                false => Err(input.error(format!("expected {WORKER}"))),
            };
        }
        input.parse::<Ident>()?;
        if !input.peek(token::Paren) {
            return Ok(Self::Hash);
        }
        let range;
        parenthesized!(range in input);
        let first = Number::parse(&range)?;
        let inclusive = range.peek(Token![..=]);
        if inclusive {
            range.parse::<Token![..=]>()?;
        } else if range.peek(Token![..]) {
            range.parse::<Token![..]>()?;
        } else {
            return Err(range.error("expected a range of workers: `hash(1..4)` or `hash(1..=3)`"));
        }
        let end = Number::parse(&range)?;
        if !range.is_empty() {
            errors.push(range.span(), "expected `)`");
            skip_until(&range, |_| false);
        }
        Ok(Self::HashOf { first, end, inclusive, span })
    }
}
