//! The lines of `routes`: patterns that can be, each once, to workers that are there.

use super::{COUNT, Checker, Quantity, Setting};
use crate::route;

/// One line of `routes`.
pub struct Route {
    /// None is every path.
    pub pattern: Option<String>,
    pub target: Target,
}

/// The worker that a line sends to.
pub enum Target {
    Worker(Quantity),
    Hash,
    /// `end` is the last with `inclusive`, and the one behind it otherwise.
    HashOf {
        first: Quantity,
        end: Quantity,
        inclusive: bool,
    },
}

/// Bytes of a path at most, as the kernel has it, without the NUL.
const PATH_MAX: usize = 4095;

impl Checker<'_> {
    pub(super) fn routes(&mut self, lines: Vec<route::Route>) {
        let mut routes = Vec::new();
        let mut seen: Vec<(Option<String>, &str)> = Vec::new();
        for route::Route { pattern, target, span } in lines {
            let pattern = pattern.map(|pattern| pattern.value());
            if let Some(why) = pattern.as_deref().and_then(wrong) {
                self.errors.push(span, why);
                continue;
            }
            // `/**` is every path there is, relative ones too once the root stands before them.
            let written = if pattern.is_none() { "`_`" } else { "`/**`" };
            let pattern = pattern.filter(|pattern| pattern != "/**");
            match seen.iter().find(|(known, _)| *known == pattern) {
                Some((Some(pattern), _)) => {
                    self.errors.push(span, format!("`{pattern}` is routed twice"));
                    continue;
                }
                Some((None, first)) if *first == written => {
                    self.errors.push(span, format!("{written} is routed twice"));
                    continue;
                }
                Some((None, first)) => {
                    let text = format!(
                        "{written} can never win: it is every path, as {first} above is. Leave \
                         one of them out"
                    );
                    self.errors.push(span, text);
                    continue;
                }
                None => seen.push((pattern.clone(), written)),
            }
            if let Some(target) = self.target(target) {
                routes.push(Route { pattern, target });
            }
        }
        self.pool.routes.get_or_insert(routes);
    }

    fn target(&mut self, target: route::Target) -> Option<Target> {
        let (first, end, inclusive, span) = match target {
            route::Target::Hash => return Some(Target::Hash),
            route::Target::Worker(number) => {
                return self.count("a route's worker", number, COUNT).map(Target::Worker);
            }
            route::Target::HashOf { first, end, inclusive, span } => (first, end, inclusive, span),
        };
        let first = self.count("the first worker", first, COUNT);
        let end = self.count("the end of the range", end, COUNT);
        let (first, end) = (first?, end?);
        if let (Some(a), Some(b)) = (first.value(), end.value())
            && b + u64::from(inclusive) <= a
        {
            let dots = if inclusive { "..=" } else { ".." };
            let text = if a > b {
                format!("the range is reversed: write `hash({b}{dots}{a})`")
            } else {
                format!("no worker is in `{a}{dots}{b}`: write `hash({a}..={b})`, or `{a}` alone")
            };
            self.errors.push(span, text);
            return None;
        }
        Some(Target::HashOf { first, end, inclusive })
    }

    /// Whether there is a worker for every line.
    pub(super) fn routes_and_workers(&mut self) {
        let (up_to, workers) = match self.pool.fields.iter().find(|(key, _)| *key == "workers") {
            Some((_, Setting::Workers { up_to, count })) => (*up_to, count.value()),
            // The default, unless something was wrong.
            _ if self.given("workers") => return,
            _ => (false, Some(1)),
        };
        for route in self.pool.routes.iter().flatten() {
            let (last, range) = match &route.target {
                Target::Hash => continue,
                Target::Worker(worker) => (worker, 0),
                // The one behind the last may be as many as there are.
                Target::HashOf { end, inclusive, .. } => (end, u64::from(!*inclusive)),
            };
            let text = match (last.value(), workers) {
                (_, workers) if up_to => {
                    let most = workers.map_or("N".into(), |n| n.to_string());
                    format!(
                        "with `workers = ..={most}` there may be fewer workers than a route names: \
                         write `workers = {most}`, or `hash` for all there are"
                    )
                }
                (Some(end), Some(workers)) if end >= workers + range => {
                    let (worker, last) = (end - range, workers - 1);
                    let there = match last {
                        0 => "0 is the only one (`workers = 1`)".into(),
                        _ => format!("they are 0 to {last} (`workers = {workers}`)"),
                    };
                    format!("there is no worker {worker}: {there}")
                }
                _ => continue,
            };
            self.errors.push(last.span, text);
        }
    }

    /// What is said of files needs some.
    pub(super) fn files_and_rest(&mut self) {
        let files = self.pool.fields.iter().find(|(field, _)| *field == "files");
        let none = match files {
            Some((_, Setting::U32(count))) => count.value() == Some(0),
            // One that was wrong was meant to be some.
            _ => !self.given("files"),
        };
        for (key, span) in &self.keys {
            let of = |word: &str| key == word;
            if none && (of("root") || of("routes")) {
                let text = format!("`{key}` is about files, and there are none: add `files = 64`");
                self.errors.push(*span, text);
            }
            if of("root") && self.pool.state.is_none() {
                let text = "`root` is a function of the worker's state: declare `state` too";
                self.errors.push(*span, text);
            }
        }
        if none && let Some(span) = self.pool.paths {
            let text = "`paths` go through the operations of files: add `files = 64`";
            self.errors.push(span, text);
        }
    }
}

/// What is wrong with a pattern.
fn wrong(pattern: &str) -> Option<&'static str> {
    if pattern.is_empty() {
        return Some("an empty pattern matches nothing: write `_` for every path");
    }
    if pattern.contains('\0') {
        return Some("a path holds no NUL: no file would ever match");
    }
    if pattern.len() > PATH_MAX {
        return Some("a path is at most 4,095 bytes: no file would ever match");
    }
    if pattern.len() > 1 && pattern.ends_with('/') {
        return Some("a `/` at the end: write `dir/*` for what is in it, `dir/**` for all below");
    }
    if pattern == "/" {
        return Some("`/` is no file: write `/*` for what is in it, or `_` for every path");
    }
    let relative = pattern.strip_prefix('/').unwrap_or(pattern);
    let (dirs, last) = relative.rsplit_once('/').map_or((None, relative), |(a, b)| (Some(a), b));
    for segment in relative.split('/') {
        match segment {
            "" => return Some("`//` is `/`: paths are matched without it"),
            "." => return Some("`.` is taken out of paths before they are matched: leave it out"),
            ".." => {
                return Some(
                    "`..` is taken out of paths before they are matched: write where it leads",
                );
            }
            _ => {}
        }
    }
    if dirs.is_some_and(|dirs| dirs.contains('*')) {
        return Some("a `*` stands in the last segment only: write `dir/**` for all below");
    }
    match last.matches('*').count() {
        0 | 1 => None,
        _ if last == "**" => None,
        _ if last.contains("**") => Some("`**` stands alone, as in `dir/**`"),
        _ => Some("one `*` only, as in `dir/*.log`"),
    }
}
