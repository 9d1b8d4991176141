//! Syntax to a checked declaration: every key once, every literal in its range, one way to start.
//!
//! What only const evaluation knows is left to assertions in the code. A mistake is noted and its key
//! left at the default, so that code for a pool comes out whatever was wrong.

mod lists;
mod number;
mod routes;

use std::ops::RangeInclusive;

use proc_macro2::{Ident, Span};
use syn::{Attribute, ExprPath, Path, Type, Visibility, parse_quote};

pub use lists::{Address, Arena, Listener, name, text};
pub use number::{Blocks, Known, Quantity};
pub use routes::{Route, Target};

use crate::errors::Errors;
use crate::number::Number;
use crate::parse::{Declaration, Entry, Value};
use number::Measure;

/// A declaration that can be turned into code.
pub struct Pool {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
    /// Where kio is found.
    pub krate: Path,
    pub state: Option<Type>,
    pub start: Start,
    pub tasks: Vec<Arena>,
    /// The arena of futures without a name; None is the default, no slots are none.
    pub spawn: Option<Blocks>,
    pub calls: Option<Blocks>,
    pub conns: Option<Quantity>,
    pub on_error: Option<ExprPath>,
    pub root: Option<ExprPath>,
    pub routes: Option<Vec<Route>>,
    /// The other fields of `Config` that were given.
    pub fields: Vec<(&'static str, Setting)>,
    /// Where the budget is, if there is one.
    pub budget: Option<Span>,
    /// Where the right to change paths is, if it was given.
    pub paths: Option<Span>,
    /// What compiles and is hardly meant.
    pub warnings: Vec<(Span, String)>,
}

/// What runs on every worker.
pub enum Start {
    Entry(ExprPath),
    Listen(Vec<Listener>),
    /// Nothing: a mistake, already noted.
    Nothing,
}

/// The value of a field of `Config`.
pub enum Setting {
    Workers { up_to: bool, count: Quantity },
    U32(Quantity),
    SomeU32(Quantity),
    U64(Quantity),
    SomeU64(Quantity),
    Bool(bool),
    Registered(&'static str),
    Pin(bool),
    Cpus(Vec<u32>),
    Park,
    Spin(Quantity),
    Signals(Vec<i32>),
}

/// The least and the most of what const evaluation asserts too, in `Config::check`.
const WORKERS: RangeInclusive<u64> = 1..=256;
const CONNS: RangeInclusive<u64> = 1..=1 << 20;
const FILES: RangeInclusive<u64> = 0..=(1 << 20) - 1;
const FILE_OPS: RangeInclusive<u64> = 1..=4096;
const BUFFERS: RangeInclusive<u64> = 1..=32_768;
const BUFFER: RangeInclusive<u64> = 4096..=1 << 30;
const OUTBOX: RangeInclusive<u64> = 1..=1024;
const STACK: RangeInclusive<u64> = 16 << 10..=u64::MAX;
const SQ: RangeInclusive<u64> = 1..=32_768;
const SLOT: RangeInclusive<u64> = 1..=1 << 30;
const COUNT: RangeInclusive<u64> = 0..=u32::MAX as u64;
const SOME: RangeInclusive<u64> = 1..=u32::MAX as u64;
const ANY: RangeInclusive<u64> = 0..=u64::MAX;

/// Checks a declaration.
pub fn check(declaration: Declaration, errors: &mut Errors) -> Pool {
    let Declaration { attrs, vis, name, entries, complete } = declaration;
    let pool = Pool {
        attrs,
        vis,
        name,
        krate: parse_quote!(::kio),
        state: None,
        start: Start::Nothing,
        tasks: Vec::new(),
        spawn: None,
        calls: None,
        conns: None,
        on_error: None,
        root: None,
        routes: None,
        fields: Vec::new(),
        budget: None,
        paths: None,
        warnings: Vec::new(),
    };
    let keys = entries.iter().map(|entry| (entry.key.to_string(), entry.key.span())).collect();
    let mut checker = Checker { pool, keys, errors };
    checker.once_each(&entries);
    // A key that was not understood may have been the one that is missed.
    if complete {
        checker.one_start(&entries);
    }
    for Entry { key, value } in entries {
        checker.entry(key, value);
    }
    checker.together(complete);
    checker.pool
}

struct Checker<'a> {
    pool: Pool,
    /// The keys that were given, and where.
    keys: Vec<(String, Span)>,
    errors: &'a mut Errors,
}

impl Checker<'_> {
    fn once_each(&mut self, entries: &[Entry]) {
        for (i, Entry { key, .. }) in entries.iter().enumerate() {
            if entries[..i].iter().any(|before| before.key == *key) {
                self.errors.push(key.span(), format!("`{key}` is given twice"));
            }
        }
    }

    fn one_start(&mut self, entries: &[Entry]) {
        let starts: Vec<_> =
            entries.iter().filter(|e| e.key == "entry" || e.key == "listen").collect();
        match starts.as_slice() {
            [] => {
                let name = &self.pool.name;
                let text = format!(
                    "`{name}` has nothing to run: add `entry = path` (an `async fn(Worker<{name}>)`) \
                     or `listen = {{ \"127.0.0.1:80\" => handler }}`"
                );
                self.errors.push(name.span(), text);
            }
            [first, second, ..] if first.key != second.key => {
                let text = "`entry` and `listen` exclude each other: an entry listens by itself, \
                            with `worker.listen(addr)`";
                self.errors.push(second.key.span(), text);
            }
            _ => {}
        }
    }

    /// Takes one key over. The first of two of one name counts.
    fn entry(&mut self, key: Ident, value: Value) {
        let key = key.to_string();
        let key = key.as_str();
        match (key, value) {
            ("workers", Value::Workers { up_to, number }) => {
                let count = self.count(key, number, WORKERS);
                self.set("workers", count.map(|count| Setting::Workers { up_to, count }));
            }
            ("entry", Value::Function(path)) => {
                if let Start::Nothing = self.pool.start {
                    self.pool.start = Start::Entry(path);
                }
            }
            ("listen", Value::Listen(lines)) => {
                let listeners = self.listeners(lines);
                if let Start::Nothing = self.pool.start {
                    self.pool.start = Start::Listen(listeners);
                }
            }
            ("state", Value::Type(ty)) => {
                self.pool.state.get_or_insert(ty);
            }
            ("tasks", Value::Tasks(lines)) => self.tasks(lines),
            ("spawn", Value::Blocks(count, size)) => {
                let blocks = self.blocks(key, count, size, COUNT, 0..=*SLOT.end());
                self.pool.spawn = self.pool.spawn.take().or(blocks);
            }
            ("calls", Value::Blocks(count, size)) => {
                let blocks = self.blocks(key, count, size, SOME, SLOT);
                self.pool.calls = self.pool.calls.take().or(blocks);
            }
            ("buffers", Value::Blocks(count, size)) => self.buffers(count, size),
            ("conns", Value::Number(number)) => {
                let conns = self.count(key, number, CONNS);
                self.pool.conns = self.pool.conns.take().or(conns);
            }
            ("files", Value::Number(number)) => self.u32("files", number, FILES),
            ("file_ops", Value::Number(number)) => self.u32("file_ops", number, FILE_OPS),
            ("depth", Value::Number(number)) => self.u32("depth", number, SOME),
            ("window", Value::Number(number)) => self.u32("window", number, SOME),
            ("outbox", Value::Number(number)) => self.u32("outbox", number, OUTBOX),
            ("blocking", Value::Number(number)) => self.u32("blocking", number, COUNT),
            ("reserve", Value::Number(number)) => {
                let reserve = self.count(key, number, COUNT);
                self.set("reserve", reserve.map(Setting::SomeU32));
            }
            ("sq", Value::Number(number)) => {
                let sq = self.count(key, number, SQ);
                self.set("sq", sq.map(Setting::SomeU32));
            }
            ("stall", Value::Number(number)) => self.time("stall", number),
            ("drain", Value::Number(number)) => self.time("drain", number),
            ("stack", Value::Number(number)) => {
                let stack = self.quantity(key, number, Measure::Bytes, STACK);
                self.set("stack", stack.map(Setting::U64));
            }
            ("budget", Value::Number(number)) => {
                let budget = self.quantity(key, number, Measure::Bytes, ANY);
                self.pool.budget = budget.as_ref().map(|budget| budget.span);
                self.set("budget", budget.map(Setting::SomeU64));
            }
            ("pin", Value::Switch(on)) => self.set("pin", Some(Setting::Pin(on))),
            ("pin", Value::Cpus(cpus)) => self.cpus(cpus),
            ("idle", Value::Park) => self.set("idle", Some(Setting::Park)),
            ("idle", Value::Spin(number)) => {
                let span = self.quantity(key, number, Measure::Time, 1..=1_000_000_000);
                self.set("idle", span.map(Setting::Spin));
            }
            ("registered", Value::Registered(word)) => self.registered(&word),
            ("harden", Value::Switch(on)) => self.set("harden", Some(Setting::Bool(on))),
            ("allow", Value::Names(names)) => self.allow(&names),
            ("signals", Value::Names(names)) => self.signals(&names),
            ("on_error", Value::Function(path)) => {
                self.pool.on_error.get_or_insert(path);
            }
            ("root", Value::Function(path)) => {
                self.pool.root.get_or_insert(path);
            }
            ("routes", Value::Routes(lines)) => self.routes(lines),
            ("crate", Value::Crate(path)) => self.pool.krate = path,
            (key, _) => unreachable!("`{key}` is parsed as another kind than it is checked as"),
        }
    }

    /// What concerns two keys at once.
    fn together(&mut self, complete: bool) {
        let conns = self.pool.conns.as_ref().and_then(|q| Some((q.value()?, q.span)));
        let (buffers, reserve) = (self.known("buffers"), self.known("reserve"));
        if let (Some((reserve, span)), Some((buffers, _))) = (reserve, buffers)
            && reserve >= buffers
        {
            self.errors.push(span, format!("`reserve` must be less than `buffers`, {buffers}"));
        }
        if let (Some((files, span)), Some((conns, _))) = (self.known("files"), conns)
            && conns + files > *CONNS.end()
        {
            let text =
                format!("`conns`, {conns}, and `files` together must be at most {}", CONNS.end());
            self.errors.push(span, text);
        }
        if let (Some((window, span)), Some((conns, _)), Some((buffers, _))) =
            (self.known("window"), conns, buffers)
            && window * conns > buffers
        {
            let text = format!(
                "{conns} conns of a window of {window} may hold more than the {buffers} \
                 buffers: connections will wait for each other"
            );
            self.pool.warnings.push((span, text));
        }
        self.handlers_and_conns(conns);
        self.workers_and_cpus();
        // As with the start: the key that is missed may be the one that was not understood.
        if complete {
            self.files_and_rest();
            self.routes_and_workers();
        }
    }

    /// Whether a key was given, be its value right or wrong.
    fn given(&self, word: &str) -> bool {
        self.keys.iter().any(|(key, _)| key == word)
    }

    /// The count that a field was given, where it is a literal.
    fn known(&self, name: &str) -> Option<(u64, Span)> {
        let (_, setting) = self.pool.fields.iter().find(|(field, _)| *field == name)?;
        match setting {
            Setting::U32(quantity) | Setting::SomeU32(quantity) => {
                Some((quantity.value()?, quantity.span))
            }
            _ => None,
        }
    }

    fn set(&mut self, field: &'static str, setting: Option<Setting>) {
        if let Some(setting) = setting
            && !self.pool.fields.iter().any(|(name, _)| *name == field)
        {
            self.pool.fields.push((field, setting));
        }
    }

    fn quantity(
        &mut self,
        key: &str,
        number: Number,
        measure: Measure,
        range: RangeInclusive<u64>,
    ) -> Option<Quantity> {
        self.errors.take(Quantity::of(key, number, measure, range))
    }

    fn count(&mut self, key: &str, number: Number, range: RangeInclusive<u64>) -> Option<Quantity> {
        self.quantity(key, number, Measure::Count, range)
    }

    fn u32(&mut self, field: &'static str, number: Number, range: RangeInclusive<u64>) {
        let count = self.count(field, number, range);
        self.set(field, count.map(Setting::U32));
    }

    fn time(&mut self, field: &'static str, number: Number) {
        let time = self.quantity(field, number, Measure::Time, ANY);
        self.set(field, time.map(Setting::U64));
    }

    /// `N x SIZE`; where no slots are allowed, a lone 0 too.
    fn blocks(
        &mut self,
        key: &str,
        count: Number,
        size: Option<Number>,
        counts: RangeInclusive<u64>,
        sizes: RangeInclusive<u64>,
    ) -> Option<Blocks> {
        let span = count.span;
        let has_unit = count.unit.is_some();
        if has_unit && size.is_none() {
            let text = format!("`{key}` is how many, and how large each: `64 x 4 KiB`");
            self.errors.push(span, text);
            return None;
        }
        let count = self.count(key, count, counts);
        let Some(size) = size else {
            let count = count?;
            if count.value() == Some(0) {
                return Some(Blocks { size: count.clone(), count });
            }
            let text = format!("how large is each of `{key}`? Write `64 x 4 KiB`");
            self.errors.push(span, text);
            return None;
        };
        let size = self.quantity(key, size, Measure::Bytes, sizes);
        Some(Blocks { count: count?, size: size? })
    }

    fn buffers(&mut self, count: Number, size: Option<Number>) {
        let Some(Blocks { count, size }) = self.blocks("buffers", count, size, BUFFERS, BUFFER)
        else {
            return;
        };
        if size.value().is_some_and(|size| !size.is_multiple_of(4096)) {
            let text = "a buffer's size must be a multiple of 4 KiB, so that every buffer is \
                        page-aligned";
            self.errors.push(size.span, text);
            return;
        }
        self.set("buffers", Some(Setting::U32(count)));
        self.set("buffer_size", Some(Setting::U32(size)));
    }
}
