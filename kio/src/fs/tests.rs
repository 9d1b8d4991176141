//! Paths and routes against models that are plain and slow.

use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::path::{PATH_MAX, normalise};
use super::route::{Route, Target, owner, route};
use crate::error::Error;
use crate::worker::{hash, pick};

const WORKERS: u32 = 5;

/// A line as it is declared; `_` has no pattern.
type Line = (Option<String>, Target);

fn table(lines: &[Line]) -> Vec<Route> {
    let line = |(pattern, target): &Line| match pattern {
        Some(pattern) => Route::new(Box::leak(pattern.clone().into_boxed_str()), *target),
        None => Route::all(*target),
    };
    lines.iter().map(line).collect()
}

fn normal(base: &str, path: &str) -> String {
    let mut out = [0xff; PATH_MAX + 1];
    let len = normalise(base.as_bytes(), path.as_bytes(), &mut out).expect("it fits");
    assert_eq!(out[len], 0);
    String::from_utf8(out[..len].to_vec()).expect("text of text")
}

/// Whether a pattern matches, segment by segment.
fn matches(pattern: &str, path: &str) -> bool {
    let (dir, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    if last == "**" {
        let below = if dir.is_empty() { Some(path) } else { path.strip_prefix(dir) };
        return below.is_some_and(|rest| rest.len() > usize::from(rest.starts_with('/')))
            && (pattern == "**" || path[dir.len()..].starts_with('/'));
    }
    let (path_dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let named = match last.split_once('*') {
        Some((before, behind)) => {
            name.len() >= before.len() + behind.len()
                && name.starts_with(before)
                && name.ends_with(behind)
                && !name.is_empty()
        }
        None => name == last,
    };
    named && dir == path_dir && pattern.starts_with('/') == path.starts_with('/')
}

/// The worker of an absolute path: every pattern is made absolute, and the most specific wins.
fn model(lines: &[Line], base: &str, path: &str) -> Option<u32> {
    let below = path.strip_prefix(if base == "/" { "" } else { base });
    let below = below.and_then(|rest| rest.strip_prefix('/')).filter(|rest| !rest.is_empty());
    let best = lines.iter().filter_map(|(pattern, target)| {
        let (rank, relative) = match pattern.as_deref() {
            None | Some("/**") => (None, true),
            Some(text) => {
                let relative = !text.starts_with('/');
                let whole = match relative {
                    true => format!("{}/{text}", base.trim_end_matches('/')),
                    false => text.to_string(),
                };
                let (before, behind) = whole.split_once('*').unwrap_or((&whole, ""));
                let kind = match behind {
                    "*" => 0,
                    _ if whole.contains('*') => 1,
                    _ => 2,
                };
                let met = matches(&whole, path) && (!relative || below.is_some());
                (Some(met.then_some((before.len(), kind, behind.len(), relative))?), relative)
            }
        };
        let text = below.filter(|_| relative).unwrap_or(path.trim_start_matches('/'));
        Some((rank, text, *target))
    });
    best.max_by_key(|(rank, ..)| *rank).map(|(_, text, target)| aim(target, text))
}

fn aim(target: Target, text: &str) -> u32 {
    let hash = hash(text.as_bytes());
    match target {
        Target::Worker(n) => n,
        Target::Hash => pick(hash, WORKERS),
        Target::HashOf { first, end } => first + pick(hash, end - first),
    }
}

fn segment() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "a.log", "b.log", "_", "é"]).prop_map(str::to_string)
}

fn relative(segments: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(segment(), 1..=segments).prop_map(|segments| segments.join("/"))
}

fn base() -> impl Strategy<Value = String> {
    prop::collection::vec(segment(), 0..3).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn pattern() -> impl Strategy<Value = String> {
    let last = prop_oneof![
        segment(),
        prop::sample::select(vec!["*", "**", "a*", "*.log", "a*.log", "*b", "*g"])
            .prop_map(str::to_string),
    ];
    let dirs = prop::collection::vec(segment(), 0..3);
    (any::<bool>(), dirs, last).prop_map(|(absolute, mut segments, last)| {
        segments.push(last);
        format!("{}{}", if absolute { "/" } else { "" }, segments.join("/"))
    })
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let target = prop_oneof![
        (0..WORKERS).prop_map(Target::Worker),
        Just(Target::Hash),
        (0..WORKERS).prop_map(|first| Target::HashOf { first, end: WORKERS }),
    ];
    let line = (prop::option::weighted(0.9, pattern()), target);
    prop::collection::vec(line, 0..12).prop_map(|mut lines| {
        // As `pool!` does: no pattern twice, and `/**` is `_`.
        let name = |line: &Line| line.0.clone().filter(|pattern| pattern != "/**");
        lines.sort_by_key(name);
        lines.dedup_by_key(|line| name(line));
        lines
    })
}

/// What a path may be written with.
fn written() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "bc", ".", "..", "...", "", "é", ".a", "a."]);
    let parts = prop::collection::vec(part, 1..8).prop_map(|parts| parts.join("/"));
    parts.prop_filter("an empty path is none", |path| !path.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_path_has_the_owner_that_the_model_says(
        lines in lines(), base in base(), path in relative(4), below: bool,
    ) {
        let path = if below { normal(&base, &path) } else { format!("/{path}") };
        let owner = owner(&table(&lines), WORKERS, base.as_bytes(), path.as_bytes());
        prop_assert_eq!(owner, model(&lines, &base, &path));
    }

    #[test]
    fn the_order_of_the_lines_says_nothing(
        lines in lines(), base in base(), path in relative(4),
    ) {
        let mut table = table(&lines);
        let path = format!("/{path}");
        let of = |table: &[Route]| owner(table, WORKERS, base.as_bytes(), path.as_bytes());
        let before = of(&table);
        table.reverse();
        prop_assert_eq!(of(&table), before);
    }

    #[test]
    fn a_relative_path_has_the_worker_that_route_says(
        lines in lines(), base in base(), path in relative(4),
    ) {
        let whole = normal(&base, &path);
        let table = table(&lines);
        // An absolute pattern that reaches below the root is not known to `route`.
        let reached = lines.iter().flat_map(|(pattern, _)| pattern)
            .any(|p| p != "/**" && p.starts_with('/') && matches(p, &whole));
        if !reached {
            let owner = owner(&table, WORKERS, base.as_bytes(), whole.as_bytes());
            prop_assert_eq!(route(&table, WORKERS, path.as_bytes()), owner);
        }
    }

    #[test]
    fn an_absolute_path_outside_the_root_has_the_worker_that_route_says(
        lines in lines(), path in relative(4),
    ) {
        let (table, path) = (table(&lines), format!("/{path}"));
        let owner = owner(&table, WORKERS, b"/root/of/its/own", path.as_bytes());
        prop_assert_eq!(route(&table, WORKERS, path.as_bytes()), owner);
    }

    #[test]
    fn both_spellings_of_a_path_have_one_worker(
        lines in lines(), base in base(), path in written(),
    ) {
        let whole = normal(&base, &path);
        let spelt = [
            normal(&base, &format!("./{path}/.")),
            normal("/elsewhere", &whole),
            normal("/elsewhere", &format!("/../{whole}//")),
        ];
        let table = table(&lines);
        let of = |path: &str| owner(&table, WORKERS, base.as_bytes(), path.as_bytes());
        if path.starts_with('/') {
            return Ok(());
        }
        for other in spelt {
            prop_assert_eq!(&other, &whole);
            prop_assert_eq!(of(&other), of(&whole));
        }
    }

    #[test]
    fn normal_is_normal_again(base in base(), path in written()) {
        let once = normal(&base, &path);
        prop_assert_eq!(normal(&base, &once), once.clone());
        prop_assert_eq!(normal("/elsewhere", &once), once.clone());
        prop_assert!(once.starts_with('/') && (once == "/" || !once.ends_with('/')));
        prop_assert!(once[1..].split('/').all(|s| !matches!(s, "." | "..") ));
        prop_assert!(!once.contains("//"));
    }

    #[test]
    fn any_bytes_are_a_path_or_an_error(
        base in base(), path in prop::collection::vec(any::<u8>(), 0..64), room in 0usize..64,
    ) {
        let mut out = vec![0xff; room];
        if let Ok(len) = normalise(base.as_bytes(), &path, &mut out) {
            prop_assert!(!path.contains(&0) && !path.is_empty() && len < room);
            prop_assert_eq!(out.iter().position(|byte| *byte == 0), Some(len));
        }
    }
}

#[test]
fn a_path_is_told_by_its_text() {
    for (path, text) in [
        ("a", "/srv/app/a"),
        (".", "/srv/app"),
        ("..", "/srv"),
        ("../../../../a", "/a"),
        ("./a//b/./c/../d/", "/srv/app/a/b/d"),
        ("/", "/"),
        ("//", "/"),
        ("/../a", "/a"),
        ("/a/..", "/"),
        ("/a/...", "/a/..."),
    ] {
        assert_eq!(normal("/srv/app", path), text, "{path}");
    }
    assert_eq!(normal("/", "a"), "/a");
    assert_eq!(normal("/", "."), "/");
}

#[test]
fn a_path_that_is_none_is_an_error() {
    let mut out = [0; 2 * PATH_MAX];
    let mut errs = |base: &[u8], path: &[u8]| {
        matches!(normalise(base, path, &mut out), Err(Error::BadPath(_)))
    };
    assert!(errs(b"/", b""));
    assert!(errs(b"/", b"a\0b"));
    assert!(!errs(b"/", &[b'a'; PATH_MAX - 1]));
    assert!(errs(b"/", &[b'a'; PATH_MAX]));
    assert!(errs(b"/b", &[b'a'; PATH_MAX - 2]));
    assert!(errs(b"/", &[b'/'; PATH_MAX + 1]));
    // The NUL wants its byte.
    assert_eq!(normalise(b"/", b"/a", &mut [0; 3]), Ok(2));
    assert!(normalise(b"/", b"/a", &mut [0; 2]).is_err());
    assert!(normalise(b"/", b"/", &mut [0; 1]).is_err());
}

#[test]
fn the_most_specific_pattern_wins() {
    const ROUTES: &[Route] = &[
        Route::all(Target::Worker(9)),
        Route::new("/logs/**", Target::Worker(0)),
        Route::new("/logs/*", Target::Worker(1)),
        Route::new("/logs/*.log", Target::Worker(2)),
        Route::new("/logs/app-*", Target::Worker(3)),
        Route::new("/logs/app-1.log", Target::Worker(4)),
        Route::new("**", Target::Worker(5)),
        Route::new("*", Target::Worker(6)),
    ];
    for (path, worker) in [
        ("/logs", 9),
        ("/logs/a/b", 0),
        ("/logs/a", 1),
        ("/logs/a.log", 2),
        ("/logs/.log", 2),
        ("/logs/app-2.log", 3),
        ("/logs/app-", 3),
        ("/logs/app-1.log", 4),
        ("/logs/app-1.log/x", 0),
        ("a/b", 5),
        ("a", 6),
        ("/a", 9),
    ] {
        assert_eq!(route(ROUTES, 10, path.as_bytes()), Some(worker), "{path}");
    }
    assert_eq!(route(&ROUTES[1..], 10, b"/a"), None);
}

#[test]
fn a_pattern_below_the_root_counts_with_the_root() {
    const ROUTES: &[Route] = &[
        Route::new("wal/**", Target::Worker(0)),
        Route::new("/srv/app/**", Target::Worker(1)),
        Route::new("/srv/app/wal/new/*", Target::Worker(2)),
    ];
    let of = |base: &str, path: &str| owner(ROUTES, 10, base.as_bytes(), path.as_bytes());
    assert_eq!(of("/srv/app", "/srv/app/wal/a"), Some(0));
    assert_eq!(of("/srv/app", "/srv/app/wal/new/a"), Some(2));
    assert_eq!(of("/srv/app", "/srv/app/wals"), Some(1));
    assert_eq!(of("/srv/apple", "/srv/app/wal/a"), Some(1));
    assert_eq!(of("/srv/app", "/srv/apple"), None);
}

#[test]
fn of_two_equal_patterns_the_relative_one_wins() {
    const ROUTES: &[Route] = &[
        Route::new("/srv/*.log", Target::Worker(1)),
        Route::new("*.log", Target::Worker(0)),
        Route::new("/srv/**", Target::Worker(1)),
        Route::new("**", Target::Worker(0)),
    ];
    for path in ["/srv/a.log", "/srv/a", "/srv/a/b"] {
        assert_eq!(owner(ROUTES, 2, b"/srv", path.as_bytes()), Some(0), "{path}");
    }
}

#[test]
fn a_directory_is_not_in_itself() {
    const ROUTES: &[Route] = &[
        Route::new("/*", Target::Worker(0)),
        Route::new("/a/*", Target::Worker(1)),
        Route::new("/a/**", Target::Worker(2)),
        Route::new("*", Target::Worker(3)),
        Route::new("**", Target::Worker(4)),
    ];
    assert_eq!(owner(ROUTES, 5, b"/", b"/"), None);
    assert_eq!(owner(ROUTES, 5, b"/a", b"/a"), Some(0));
    assert_eq!(owner(ROUTES, 5, b"/a", b"/a/b"), Some(3));
    // Not normal, and so none that opening a file asks for.
    assert_eq!(route(ROUTES, 5, b"/"), None);
    assert_eq!(route(ROUTES, 5, b"/a/"), None);
}
