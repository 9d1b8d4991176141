//! The lists of a declaration: tasks, listeners, CPUs, signals, rights.

use std::net::SocketAddr;

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{ExprPath, LitInt, LitStr};

use super::{Checker, Quantity, SOME, Setting, Start};
use crate::keys::closest;
use crate::parse::{Addr, Listen, ListenOption, ListenValue, Task};

/// One line of `tasks`.
pub struct Arena {
    pub path: ExprPath,
    /// What it is called in errors and counts.
    pub label: String,
    pub count: Quantity,
}

/// One line of `listen`.
pub struct Listener {
    pub addr: Address,
    pub handler: ExprPath,
    pub options: Options,
}

/// What is said of a listener besides.
#[derive(Default)]
pub struct Options {
    pub shared: bool,
    pub real_fds: bool,
    /// A function of the state that gives the acceptor.
    pub tls: Option<ExprPath>,
}

/// Where to listen.
pub enum Address {
    Literal(SocketAddr, Span),
    /// A function of the state.
    Function(ExprPath),
}

/// Signals that a pool may be told of, by their numbers on x86-64 and aarch64.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("CHLD", 17),
    ("CONT", 18),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
];
/// Signals a pool handles at once, beside INT and TERM.
const SIGNALS_MAX: usize = 14;
/// Listeners a worker may have open at once, as `kio` has it.
const LISTENERS_MAX: usize = 8;
/// The largest CPU number of a CPU set, plus one.
const CPUS: u32 = 1024;

impl Checker<'_> {
    pub(super) fn tasks(&mut self, lines: Vec<Task>) {
        for Task { path, label, count } in lines {
            let span = path.path.segments.last().map_or_else(Span::call_site, |s| s.ident.span());
            let key = text(&path);
            if self.pool.tasks.iter().any(|task| text(&task.path) == key) {
                let text =
                    format!("`{}` is listed twice: give the sum of both counts", name(&path));
                self.errors.push(path.span(), text);
                continue;
            }
            let at = label.as_ref().map_or(span, Ident::span);
            let label = label.map_or_else(|| name(&path), |label| label.to_string());
            if self.pool.tasks.iter().any(|task| task.label == label) {
                let text = format!("two tasks are called `{label}`: write `path as other: count`");
                self.errors.push(at, text);
            }
            if let Some(count) = self.count(&label, count, SOME) {
                self.pool.tasks.push(Arena { path, label, count });
            }
        }
    }

    pub(super) fn listeners(&mut self, lines: Vec<Listen>) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = Vec::new();
        for Listen { addr, handler, options } in lines {
            let options = self.listen_options(options);
            let addr = match addr {
                Addr::Function(path) => Address::Function(path),
                Addr::Literal(literal) => match self.address(&literal) {
                    Some(addr) => Address::Literal(addr, literal.span()),
                    None => continue,
                },
            };
            if let Address::Literal(new, span) = addr
                && new.port() != 0
                && listeners.iter().any(|l| matches!(l.addr, Address::Literal(a, _) if a == new))
            {
                self.errors.push(span, format!("{new} is listened on twice"));
                continue;
            }
            if listeners.len() == LISTENERS_MAX {
                let text = format!("a worker listens on at most {LISTENERS_MAX} addresses");
                self.errors.push(handler.span(), text);
            }
            listeners.push(Listener { addr, handler, options });
        }
        listeners
    }

    fn address(&mut self, literal: &LitStr) -> Option<SocketAddr> {
        let text = literal.value();
        if let Ok(addr) = text.parse() {
            return Some(addr);
        }
        let hint = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => match host {
                "" | "*" => format!("write `0.0.0.0:{port}` or `[::]:{port}` for all addresses"),
                _ if host.contains(':') => {
                    format!("an IPv6 address has brackets: `[{host}]:{port}`")
                }
                _ => "a name is looked up at run time: give a `fn(&State) -> SocketAddr`".into(),
            },
            _ => "write `127.0.0.1:80` or `[::1]:80`".into(),
        };
        self.errors.push(literal.span(), format!("not a socket address: {hint}"));
        None
    }

    fn listen_options(&mut self, lines: Vec<ListenOption>) -> Options {
        let mut options = Options::default();
        for ListenOption { name, value } in lines {
            let again = match (name.to_string().as_str(), value) {
                ("accept", Some(ListenValue::Word(word))) if word.to_string() == "shared" => {
                    std::mem::replace(&mut options.shared, true)
                }
                ("accept", value) => {
                    let at = match value {
                        Some(ListenValue::Word(word)) => word.span(),
                        _ => name.span(),
                    };
                    self.errors.push(at, "the one thing to say of accept is `accept = shared`");
                    continue;
                }
                ("real_fds", None) => std::mem::replace(&mut options.real_fds, true),
                ("real_fds", Some(_)) => {
                    self.errors.push(name.span(), "`real_fds` stands alone, without a value");
                    continue;
                }
                ("tls", Some(ListenValue::Function(path))) => options.tls.replace(path).is_some(),
                ("tls", _) => {
                    let text = "expected `tls = path`, of a `fn(&State) -> &TlsAcceptor`";
                    self.errors.push(name.span(), text);
                    continue;
                }
                _ => {
                    let text = format!(
                        "unknown option `{name}`: `accept = shared`, `real_fds` or `tls = path`"
                    );
                    self.errors.push(name.span(), text);
                    continue;
                }
            };
            if again {
                self.errors.push(name.span(), format!("`{name}` is given twice"));
            }
        }
        options
    }

    /// Warns where more handlers are declared than there can be connections.
    pub(super) fn handlers_and_conns(&mut self, conns: Option<(u64, Span)>) {
        let Start::Listen(listeners) = &self.pool.start else {
            return;
        };
        let Some((conns, span)) = conns else { return };
        let handled = |task: &&Arena| {
            listeners.iter().any(|listener| text(&listener.handler) == text(&task.path))
        };
        let counts = self.pool.tasks.iter().filter(handled).map(|task| task.count.value());
        let sum: u64 = counts.flatten().sum();
        if sum > conns {
            let text =
                format!("the handlers of `listen` may be {sum} at once, and `conns` is {conns}");
            self.pool.warnings.push((span, text));
        }
    }

    pub(super) fn cpus(&mut self, list: Vec<LitInt>) {
        let mut cpus: Vec<u32> = Vec::new();
        for literal in list {
            match literal.base10_parse::<u32>() {
                Ok(cpu) if cpus.contains(&cpu) => {
                    self.errors.push(literal.span(), format!("CPU {cpu} is listed twice"));
                }
                Ok(cpu) if cpu < CPUS => cpus.push(cpu),
                _ => self.errors.push(literal.span(), format!("a CPU is a number below {CPUS}")),
            }
        }
        self.set("pin", Some(Setting::Cpus(cpus)));
    }

    pub(super) fn workers_and_cpus(&mut self) {
        let fields = &self.pool.fields;
        let cpus = fields.iter().find_map(|(_, setting)| match setting {
            Setting::Cpus(cpus) => Some(cpus.len() as u64),
            _ => None,
        });
        let workers = fields.iter().find_map(|(_, setting)| match setting {
            Setting::Workers { up_to: false, count } => Some((count.value()?, count.span)),
            _ => None,
        });
        if let (Some(cpus), Some((workers, span))) = (cpus, workers)
            && workers > cpus
        {
            self.errors.push(span, format!("{workers} workers, and `pin` lists {cpus} CPUs"));
        }
    }

    pub(super) fn signals(&mut self, names: &[Ident]) {
        let mut numbers = Vec::new();
        for name in names {
            let text = name.to_string();
            match self.signal(&text) {
                Ok(number) if numbers.contains(&number) => {
                    self.errors.push(name.span(), format!("`{text}` is listed twice"));
                }
                Ok(number) => numbers.push(number),
                Err(why) => self.errors.push(name.span(), why),
            }
        }
        if let Some(name) = names.get(SIGNALS_MAX) {
            self.errors.push(name.span(), format!("at most {SIGNALS_MAX} signals"));
        }
        self.set("signals", Some(Setting::Signals(numbers)));
    }

    fn signal(&self, name: &str) -> Result<i32, String> {
        if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
            return Ok(*number);
        }
        Err(match name {
            "INT" | "TERM" => format!("{name} stops the pool always: it needs no line here"),
            "KILL" | "STOP" => format!("{name} cannot be handled by any process"),
            _ => {
                let bare = name.strip_prefix("SIG").unwrap_or(name);
                match closest(bare, SIGNALS.iter().map(|(known, _)| *known)) {
                    Some(known) => format!("unknown signal `{name}`: did you mean `{known}`?"),
                    None => {
                        let all: Vec<_> = SIGNALS.iter().map(|(known, _)| *known).collect();
                        format!("unknown signal `{name}`: there are {}", all.join(", "))
                    }
                }
            }
        })
    }

    pub(super) fn allow(&mut self, names: &[Ident]) {
        for name in names {
            let text = match name.to_string().as_str() {
                "paths" if self.pool.paths.is_none() => {
                    self.pool.paths = Some(name.span());
                    self.set("paths", Some(Setting::Bool(true)));
                    continue;
                }
                "paths" => "`paths` is listed twice".into(),
                "udp" | "unix" => format!("`{name}` comes in a later version of kio"),
                "tcp" => "`conns` allows TCP: it needs no line here".into(),
                "files" => "`files` allows files: it needs no line here".into(),
                _ => format!("unknown right `{name}`: there is `paths`"),
            };
            self.errors.push(name.span(), text);
        }
    }

    pub(super) fn registered(&mut self, word: &Ident) {
        let variant = match word.to_string().as_str() {
            "auto" => "Auto",
            "require" => "Require",
            "off" => "Off",
            _ => {
                self.errors.push(word.span(), "expected `auto`, `require` or `off`");
                return;
            }
        };
        self.set("registered", Some(Setting::Registered(variant)));
    }
}

/// A path as text, to tell whether two are one.
pub fn text(path: &ExprPath) -> String {
    path.to_token_stream().to_string()
}

/// The last name of a path.
pub fn name(path: &ExprPath) -> String {
    path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
}
