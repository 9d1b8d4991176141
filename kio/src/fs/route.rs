//! The static routes from path to worker.
//!
//! A table is a slice of [`Route`]s that `pool!` has checked. A path meets every line; of those that
//! match, the most specific wins, so the order of the lines says nothing:
//!
//! 1. the longest text before the first `*`, relative patterns counted with the root before them;
//! 2. then an exact path over `*` over `**`;
//! 3. then the longest text behind the `*`;
//! 4. then a relative pattern over an absolute one.
//!
//! (Taken in the order 2, 1, 3, 4 it is the same: of a `*` and a `**` that match one path, the `*` never
//! has less text before it.) Two lines that are equal in all four have the same text, which `pool!` refuses. `_`, and `/**`
//! which is the same, stand behind everything else.
//!
//! A file below the root has two names, one relative and one absolute, and one worker: what is hashed
//! is its text below the root, unless an absolute pattern won.

use crate::worker::{hash, pick};

/// One line of `routes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pattern: Pattern,
    target: Target,
}

/// Who opens what a pattern matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// This worker.
    Worker(u32),
    /// One of all, by the path's hash.
    Hash,
    /// One of those from `first` up to and without `end`, by the path's hash.
    HashOf {
        /// The first.
        first: u32,
        /// The one behind the last.
        end: u32,
    },
}

/// What a line matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pattern {
    /// This path.
    Exact(&'static [u8]),
    /// `before*behind`, with no `/` where the `*` is.
    One { before: &'static [u8], behind: &'static [u8] },
    /// `before**`: whatever follows, at any depth.
    Below(&'static [u8]),
    /// Every path.
    All,
}

/// A path, as far as it is known.
struct Known<'a> {
    absolute: Option<&'a [u8]>,
    /// Its text below the root.
    relative: Option<&'a [u8]>,
}

impl Route {
    /// The line of a pattern that `pool!` has checked.
    pub const fn new(pattern: &'static str, target: Target) -> Self {
        let text = pattern.as_bytes();
        let mut star = 0;
        while star < text.len() && text[star] != b'*' {
            star += 1;
        }
        let (before, rest) = text.split_at(star);
        let pattern = match rest {
            [] => Pattern::Exact(text),
            [_, b'*', ..] if matches!(before, b"/") => Pattern::All,
            [_, b'*', ..] => Pattern::Below(before),
            [_, behind @ ..] => Pattern::One { before, behind },
        };
        Self { pattern, target }
    }

    /// The line of `_`.
    pub const fn all(target: Target) -> Self {
        Self { pattern: Pattern::All, target }
    }

    /// Whether it sends to none but the first `workers`, however many there will be.
    pub(crate) const fn fits(&self, workers: u32, exact: bool) -> bool {
        match self.target {
            Target::Hash => true,
            Target::Worker(n) => exact && n < workers,
            Target::HashOf { first, end } => exact && first < end && end <= workers,
        }
    }
}

impl Pattern {
    /// The text before the first `*`.
    const fn before(&self) -> &'static [u8] {
        match *self {
            Self::Exact(before) | Self::One { before, .. } | Self::Below(before) => before,
            Self::All => b"",
        }
    }

    /// Whether it matches, where both are absolute or both are below the root.
    const fn matches(&self, path: &[u8]) -> bool {
        if !starts_with(path, self.before()) {
            return false;
        }
        let (before, rest) = path.split_at(self.before().len());
        match *self {
            Self::All => true,
            Self::Exact(_) => rest.is_empty(),
            Self::Below(_) => !rest.is_empty(),
            Self::One { behind, .. } => {
                // A segment is not empty: `dir/*` is not `dir/` itself.
                let within = matches!(before, [.., c] if *c != b'/');
                (within || !rest.is_empty()) && !has_slash(rest) && ends_with(rest, behind)
            }
        }
    }

    /// How specific it is, where `above` bytes of root stand before it; no two lines that match one
    /// path are equal. A path is 4,095 bytes at most, so twelve bits hold a length.
    const fn rank(&self, above: usize, relative: bool) -> u32 {
        let (kind, behind) = match *self {
            Self::All => return 1,
            Self::Below(_) => (1, 0),
            Self::One { behind, .. } => (2, behind.len()),
            Self::Exact(_) => (3, 0),
        };
        let before = (above + self.before().len()) as u32;
        before << 15 | kind << 13 | (behind as u32) << 1 | relative as u32
    }
}

impl Known<'_> {
    /// The worker of the path. None where no line matches.
    const fn owner(&self, routes: &[Route], workers: u32) -> Option<u32> {
        let above = match (self.absolute, self.relative) {
            (Some(absolute), Some(relative)) => absolute.len() - relative.len(),
            _ => 0,
        };
        let (mut best, mut owner) = (0, None);
        let mut i = 0;
        while i < routes.len() {
            let Route { pattern, target } = &routes[i];
            i += 1;
            let relative = match pattern {
                Pattern::All => self.relative.is_some(),
                pattern => !matches!(pattern.before(), [b'/', ..]),
            };
            let Some(path) = (if relative { self.relative } else { self.absolute }) else {
                continue;
            };
            let above = if relative { above } else { 0 };
            if pattern.matches(path) && pattern.rank(above, relative) > best {
                best = pattern.rank(above, relative);
                owner = Some(target.of(path, workers));
            }
        }
        owner
    }
}

impl Target {
    /// The worker of a path.
    const fn of(&self, path: &[u8], workers: u32) -> u32 {
        // With a root of `/`, `/tmp/a` is `tmp/a`, whoever asks.
        let path = match path {
            [b'/', rest @ ..] => rest,
            path => path,
        };
        match *self {
            Self::Worker(n) => n,
            Self::Hash => pick(hash(path), workers),
            Self::HashOf { first, end } => first + pick(hash(path), end - first),
        }
    }
}

/// The worker of a path as written: relative paths meet the relative patterns, absolute ones the
/// absolute patterns. None where no line matches.
pub const fn route(routes: &[Route], workers: u32, path: &[u8]) -> Option<u32> {
    let known = match path {
        [b'/', ..] => Known { absolute: Some(path), relative: None },
        _ => Known { absolute: None, relative: Some(path) },
    };
    known.owner(routes, workers)
}

/// The worker of a path at run time, when the root of relative paths is known. Both are absolute and
/// normalised. None where no line matches: then a file is opened where it is asked for.
pub(crate) fn owner(routes: &[Route], workers: u32, base: &[u8], path: &[u8]) -> Option<u32> {
    let base = base.strip_suffix(b"/").unwrap_or(base);
    let relative = path.strip_prefix(base).and_then(|rest| rest.strip_prefix(b"/"));
    let relative = relative.filter(|rest| !rest.is_empty());
    Known { absolute: Some(path), relative }.owner(routes, workers)
}

const fn starts_with(text: &[u8], start: &[u8]) -> bool {
    start.len() <= text.len() && equal(text.split_at(start.len()).0, start)
}

const fn ends_with(text: &[u8], end: &[u8]) -> bool {
    end.len() <= text.len() && equal(text.split_at(text.len() - end.len()).1, end)
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

const fn has_slash(text: &[u8]) -> bool {
    let mut i = 0;
    while i < text.len() && text[i] != b'/' {
        i += 1;
    }
    i < text.len()
}
