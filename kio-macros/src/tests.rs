//! The three steps over plain token streams, without a compiler around them.

use proc_macro2::TokenStream;

use crate::check::{Known, Pool, Setting, Start};
use crate::errors::Errors;
use crate::{check, declare, keys, parse};

/// A declaration with every key.
const FULL: &str = r#"
    /// Docs.
    #[cfg(all())]
    pub(crate) struct Full;
    workers = ..=16, listen = {
        "127.0.0.1:80" => handle { accept = shared, real_fds },
        "[::1]:80" => handle,
        App::addr => m::other::<u8>,
    },
    state = App, tasks = { handle: 1024, <A as B>::run as run: { 4 * 4 }, ::a::b: N },
    spawn = 64 x 4 KiB, calls = 64 x 256B, conns = CONNS, buffers = 256 x SIZE KiB,
    depth = 64, reserve = 8, window = 1, outbox = 16, stall = 10 s, sq = 256, stack = { S } B,
    pin = [0, 1], idle = spin(100us), blocking = 0, harden = off, allow = [paths],
    files = 64, file_ops = { 8 * 8 }, registered = require, root = App::dir,
    routes = { "/var/wal/*" => hash, "cache/**" => hash, _ => hash },
    signals = [HUP, USR1], drain = DRAIN, on_error = failed, budget = 80 MiB, crate = ::runtime,
"#;

fn checked(text: &str) -> (Option<Pool>, Vec<String>) {
    let mut errors = Errors::default();
    let tokens: TokenStream = text.parse().expect("tokens");
    let declaration = parse::parse(tokens, &mut errors);
    let pool = declaration.map(|declaration| check::check(declaration, &mut errors));
    (pool, errors.texts())
}

fn mistakes(keys: &str) -> Vec<String> {
    checked(&format!("struct A; entry = serve, {keys}")).1
}

/// A field that was given as a literal.
fn field(keys: &str, name: &str) -> Option<u64> {
    let (pool, errors) = checked(&format!("struct A; entry = serve, {keys}"));
    assert_eq!(errors, [""; 0]);
    let pool = pool.expect("a pool");
    let (_, setting) = pool.fields.iter().find(|(field, _)| *field == name)?;
    match setting {
        Setting::U32(q) | Setting::SomeU32(q) | Setting::U64(q) | Setting::SomeU64(q) => q.value(),
        Setting::Spin(q) => q.value(),
        _ => None,
    }
}

#[test]
fn every_key_is_understood() {
    let (pool, errors) = checked(FULL);
    assert_eq!(errors, [""; 0]);
    let pool = pool.expect("a pool");
    assert!(matches!(&pool.start, Start::Listen(lines) if lines.len() == 3));
    let labels: Vec<_> = pool.tasks.iter().map(|task| task.label.as_str()).collect();
    assert_eq!(labels, ["handle", "run", "b"]);
    for (key, _) in keys::KEYS {
        assert!(FULL.contains(&format!("{key} = ")) || *key == "entry", "{key} is not in the test");
    }
}

#[test]
fn no_prefix_of_a_declaration_panics() {
    for (end, _) in FULL.char_indices() {
        // Text with a bracket left open is no token stream; the compiler says so itself.
        if let Ok(tokens) = FULL[..end].parse() {
            declare(tokens);
        }
    }
}

#[test]
fn no_declaration_with_a_token_left_out_panics() {
    fn without(tokens: TokenStream, out: &mut Vec<TokenStream>) {
        let trees: Vec<_> = tokens.into_iter().collect();
        for skipped in 0..trees.len() {
            let rest = trees.iter().enumerate().filter(|(i, _)| *i != skipped);
            out.push(rest.map(|(_, tree)| tree.clone()).collect());
            if let proc_macro2::TokenTree::Group(group) = &trees[skipped] {
                let mut inner = Vec::new();
                without(group.stream(), &mut inner);
                out.extend(inner.into_iter().map(|inner| {
                    let group = proc_macro2::Group::new(group.delimiter(), inner);
                    let mut all = trees.clone();
                    all[skipped] = group.into();
                    all.into_iter().collect()
                }));
            }
        }
    }
    let mut all = Vec::new();
    without(FULL.parse().expect("tokens"), &mut all);
    for tokens in all {
        declare(tokens);
    }
}

#[test]
fn units_follow_with_or_without_a_space() {
    assert_eq!(field("budget = 16KiB", "budget"), Some(16 << 10));
    assert_eq!(field("budget = 16 KiB", "budget"), Some(16 << 10));
    assert_eq!(field("budget = 3 GiB", "budget"), Some(3 << 30));
    assert_eq!(field("stall = 1_500us", "stall"), Some(1_500_000));
    assert_eq!(field("idle = spin(2 ms)", "idle"), Some(2_000_000));
    assert_eq!(field("buffers = 0x40 x 4KiB", "buffers"), Some(64));
    assert_eq!(field("buffers = 64 x 8 KiB", "buffer_size"), Some(8192));
}

#[test]
fn consts_keep_their_factor() {
    let (pool, errors) = checked("struct A; entry = serve, stack = { N } KiB, drain = D");
    assert_eq!(errors, [""; 0]);
    let pool = pool.expect("a pool");
    let amounts: Vec<_> = pool.fields.iter().map(|(_, setting)| setting).collect();
    let [Setting::U64(stack), Setting::U64(drain)] = amounts.as_slice() else { panic!("fields") };
    assert!(matches!(stack.amount, Known::Integer { factor: 1024, .. }));
    assert!(matches!(drain.amount, Known::Duration { .. }));
}

#[test]
fn a_mistake_hides_no_other() {
    assert_eq!(
        mistakes("woerkers = 2, conns = 0, budget = 1, pin = maybe, tasks = { a, b: 0 }"),
        [
            "unknown key `woerkers`: did you mean `workers`?",
            "expected `on`, `off` or a list of CPUs as in `[0, 1]`",
            "expected `:` and how many of it may live on a worker",
            "`conns` must be at least 1",
            "a size has a unit: B, KiB, MiB or GiB",
            "`b` must be at least 1",
        ]
    );
}

#[test]
fn a_value_with_commas_of_its_own_is_one_value() {
    assert_eq!(mistakes("state = App<A, B>, on_error = report::<A, B>"), [""; 0]);
}

#[test]
fn a_pattern_that_can_be_none_is_refused() {
    let long = format!("/{}", "a".repeat(4095));
    let wrong = [
        "", "/", "a/", "a//b", "//a", "./a", "a/.", "a/../b", "..", "a*/b", "**/b", "a**", "***",
        "*a*", "a\\0b", &long,
    ];
    for pattern in wrong {
        let errors = mistakes(&format!("files = 1, routes = {{ \"{pattern}\" => 0 }}"));
        assert_eq!(errors.len(), 1, "{pattern}: {errors:?}");
    }
    let right = ["*", "**", "/*", "/**", "a*b", "_", ".a", "a..b", "...", "a/b/*.log", &long[1..]];
    let lines: String = right.iter().map(|pattern| format!("\"{pattern}\" => 0,")).collect();
    assert_eq!(mistakes(&format!("files = 1, routes = {{ {lines} }}")), [""; 0]);
}

#[test]
fn a_route_sends_to_a_worker_that_is_there() {
    let says = |workers: &str, target: &str| {
        mistakes(&format!("workers = {workers}, files = 1, routes = {{ \"a\" => {target} }}"))
    };
    for right in ["0", "3", "hash", "hash(0..4)", "hash(1..=3)", "N", "hash(A..=B)", "hash::N"] {
        assert_eq!(says("4", right), [""; 0], "{right}");
        assert_eq!(says("N", right), [""; 0], "{right}");
    }
    for wrong in ["4", "hash(0..5)", "hash(1..=4)", "hash(2..2)", "hash(3..=2)", "-1", "hash()"] {
        assert_eq!(says("4", wrong).len(), 1, "{wrong}");
    }
    assert_eq!(says("..=4", "hash"), [""; 0]);
    assert_eq!(says("..=4", "0").len(), 1);
    assert_eq!(says("..=4", "hash(0..2)").len(), 1);
}

#[test]
fn the_first_of_two_is_taken() {
    let (pool, errors) = checked("struct A; entry = a, entry = b, depth = 1, depth = 2");
    assert_eq!(errors, ["`entry` is given twice", "`depth` is given twice"]);
    let pool = pool.expect("a pool");
    assert!(matches!(&pool.start, Start::Entry(path) if check::name(path) == "a"));
}

#[test]
fn the_defaults_warn_of_nothing() {
    let (pool, _) = checked("struct A; listen = { \"0.0.0.0:1\" => a, \"0.0.0.0:2\" => b }");
    assert!(pool.expect("a pool").warnings.is_empty());
}

#[test]
fn a_renamed_kio_is_the_only_one_named() {
    let code = declare(FULL.parse().expect("tokens")).to_string();
    assert!(code.contains(":: runtime") && !code.contains(":: kio ::"), "{code}");
}

#[test]
fn a_pool_comes_out_of_a_wrong_declaration() {
    let code = declare("pub struct A; state = App, nonsense".parse().expect("tokens")).to_string();
    for part in ["compile_error", "pub struct A ;", "fn run (args", "unsafe impl __kio :: Pool"] {
        assert!(code.contains(part), "no {part} in {code}");
    }
}

#[test]
fn closest_is_close() {
    let closest = |word| keys::closest(word, keys::KEYS.iter().map(|(key, _)| *key));
    assert_eq!(closest("buffer"), Some("buffers"));
    assert_eq!(closest("on_eror"), Some("on_error"));
    assert_eq!(closest("task"), Some("tasks"));
    assert_eq!(closest("colour"), None);
}
