//! The keys of a declaration, what each is followed by, and the closest one to a word that is none.

/// What follows a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `4` or `..=16`.
    Workers,
    /// The path of a function.
    Function,
    /// `{ addr => handler, .. }`.
    Listen,
    /// A type.
    Type,
    /// `{ path: count, .. }`.
    Tasks,
    /// `64 x 4 KiB`.
    Blocks,
    /// A number without a unit.
    Count,
    /// A number of bytes.
    Size,
    /// A time.
    Span,
    /// `on` or `off`.
    Switch,
    /// `on`, `off` or a list of CPUs.
    Pin,
    /// `park` or `spin(100 us)`.
    Idle,
    /// `[HUP, USR1]`.
    Names,
    /// `auto`, `require` or `off`.
    Registered,
    /// `{ "wal/*" => 0, _ => hash }`.
    Routes,
    /// The path of a crate.
    Crate,
}

/// The keys, in the order of the documentation.
pub const KEYS: &[(&str, Kind)] = &[
    ("workers", Kind::Workers),
    ("entry", Kind::Function),
    ("listen", Kind::Listen),
    ("state", Kind::Type),
    ("tasks", Kind::Tasks),
    ("spawn", Kind::Blocks),
    ("calls", Kind::Blocks),
    ("conns", Kind::Count),
    ("files", Kind::Count),
    ("file_ops", Kind::Count),
    ("buffers", Kind::Blocks),
    ("depth", Kind::Count),
    ("reserve", Kind::Count),
    ("window", Kind::Count),
    ("outbox", Kind::Count),
    ("stall", Kind::Span),
    ("sq", Kind::Count),
    ("stack", Kind::Size),
    ("pin", Kind::Pin),
    ("idle", Kind::Idle),
    ("blocking", Kind::Count),
    ("registered", Kind::Registered),
    ("harden", Kind::Switch),
    ("allow", Kind::Names),
    ("signals", Kind::Names),
    ("drain", Kind::Span),
    ("on_error", Kind::Function),
    ("root", Kind::Function),
    ("routes", Kind::Routes),
    ("budget", Kind::Size),
    ("crate", Kind::Crate),
];

/// Keys that are designed and not there yet.
const LATER: &[&str] = &["ops", "cold"];

/// Words that people who come from elsewhere write.
const ALIASES: &[(&str, &str)] = &[
    ("threads", "workers"),
    ("cores", "workers"),
    ("main", "entry"),
    ("connections", "conns"),
    ("sockets", "conns"),
    ("memory", "budget"),
    ("timeout", "drain"),
];

/// What follows the key `word`, if it is one.
pub fn kind(word: &str) -> Option<Kind> {
    KEYS.iter().find(|(key, _)| *key == word).map(|(_, kind)| *kind)
}

/// What to say of a key that is none.
pub fn unknown(word: &str) -> String {
    if LATER.contains(&word) {
        return format!("`{word}` comes in a later version of kio");
    }
    let alias = ALIASES.iter().find(|(other, _)| *other == word).map(|(_, key)| *key);
    match alias.or_else(|| closest(word, KEYS.iter().map(|(key, _)| *key))) {
        Some(key) => format!("unknown key `{word}`: did you mean `{key}`?"),
        None => {
            let all: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
            format!("unknown key `{word}`: the keys are {}", all.join(", "))
        }
    }
}

/// The word of `known` that `word` is most likely meant to be.
pub fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near =
        |candidate: &str| distance(word, candidate) <= 1 + candidate.len().min(word.len()) / 5;
    known.filter(|candidate| near(candidate)).min_by_key(|candidate| distance(word, candidate))
}

/// How many letters must be put in, taken out or changed to make `a` of `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
