//! What the configuration file says, in tables of a fixed size, so that reading it anew while serving
//! allocates nothing, where it says nothing of TLS. One line is one statement; `parse` tells of a mistake by its line and cause.

mod line;
mod mistake;
mod tls;

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use heapless::{String, Vec};

use line::Line;
pub use mistake::{Cause, Fault, Mistake};
pub use tls::Terms;
use tls::Words;

/// Listeners, groups and servers that a configuration may have.
pub const LISTENERS: usize = 8;
pub const GROUPS: usize = 16;
pub const SERVERS: usize = 64;
/// Bytes of a name, and of the file: it is read into one buffer, and must not fill it.
pub const NAME: usize = 32;
pub const FILE_MAX: usize = (16 << 10) - 1;

/// A listener's, group's or server's name.
pub type Name = String<NAME>;

/// How a group chooses among its servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest connections of this worker.
    Least,
    /// Always the same for a client's address, while it is up.
    Client,
}

/// The header that tells a server who the client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyOut {
    Off,
    V1,
    V2,
}

/// `listen NAME ADDR to GROUP [proxy-in] [tls ..]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    pub name: Name,
    pub addr: SocketAddr,
    pub group: usize,
    pub proxy_in: bool,
    pub tls: Option<Arc<Terms>>,
}

/// `group NAME [balance=..] [check=..] [rise=N] [fall=N] [wait=..] [retries=N] [proxy-out=..]
/// [tls=NAME ..]`
#[derive(Clone, Debug)]
pub struct Group {
    pub name: Name,
    pub balance: Balance,
    /// How often a server is tried; none is never.
    pub check: Option<Duration>,
    /// Checks in a row that bring a server up, and failures in a row that take it down.
    pub rise: u32,
    pub fall: u32,
    /// How long a client may wait for a server below its `max`.
    pub wait: Duration,
    /// Servers that are tried after the first.
    pub retries: u32,
    pub proxy_out: ProxyOut,
    pub tls: Option<Arc<Terms>>,
}

/// `server GROUP ADDR [max=N]`
#[derive(Clone, Debug)]
pub struct Server {
    pub group: usize,
    pub addr: SocketAddr,
    /// Connections of each worker.
    pub max: u32,
}

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub connect_timeout: Duration,
    pub idle_timeout: Duration,
    /// How long a client may take for its PROXY header.
    pub header_timeout: Duration,
    /// Buffers a direction holds at most.
    pub window: u16,
    /// Where the counters are told.
    pub metrics: Option<SocketAddr>,
    pub listeners: Vec<Listen, LISTENERS>,
    pub groups: Vec<Group, GROUPS>,
    pub servers: Vec<Server, SERVERS>,
}

type Result<T> = core::result::Result<T, Mistake>;

impl Config {
    const EMPTY: Self = Self {
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        header_timeout: Duration::from_secs(5),
        window: 16,
        metrics: None,
        listeners: Vec::new(),
        groups: Vec::new(),
        servers: Vec::new(),
    };

    /// Reads a configuration. The first mistake is told.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_MAX {
            return Err(Mistake::new(0, Cause::TooLong, ""));
        }
        let text = core::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let number = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            Mistake::new(number, Cause::NotText, "")
        })?;
        let mut config = Self::EMPTY;
        for (nth, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut line = Line::new(nth + 1, line);
            if let Some(statement) = line.words.next() {
                line.last = statement;
                config.statement(statement, &mut line)?;
                line.end()?;
            }
        }
        config.complete()?;
        Ok(config)
    }

    fn statement(&mut self, statement: &str, line: &mut Line<'_>) -> Result<()> {
        match statement {
            "connect-timeout" => self.connect_timeout = line.only_span()?,
            "idle-timeout" => self.idle_timeout = line.only_span()?,
            "header-timeout" => self.header_timeout = line.only_span()?,
            "window" => {
                let word = line.next("a number")?;
                self.window = line.number(word, 1, u32::from(crate::OUTBOX))? as u16;
            }
            "metrics" => match self.metrics {
                Some(_) => return Err(line.mistake(Cause::Twice, "metrics")),
                None => self.metrics = Some(self.own_addr(line)?),
            },
            "listen" => self.listen(line)?,
            "group" => self.group(line)?,
            "server" => self.server(line)?,
            other => return Err(line.mistake(Cause::UnknownStatement, other)),
        }
        Ok(())
    }

    /// An address to listen on, which nothing else here does.
    fn own_addr(&self, line: &mut Line<'_>) -> Result<SocketAddr> {
        let word = line.words.clone().next().unwrap_or_default();
        let addr = line.addr()?;
        let others = self.listeners.iter().map(|listen| listen.addr).chain(self.metrics);
        match others.into_iter().any(|other| other == addr) {
            true => Err(line.mistake(Cause::Twice, word)),
            false => Ok(addr),
        }
    }

    fn group_named(&self, line: &mut Line<'_>) -> Result<usize> {
        let word = line.next("a group")?;
        let found = self.groups.iter().position(|group| group.name == word);
        found.ok_or_else(|| line.mistake(Cause::UnknownGroup, word))
    }

    fn listen(&mut self, line: &mut Line<'_>) -> Result<()> {
        let name = line.name()?;
        if self.listeners.iter().any(|other| other.name == name) {
            return Err(line.mistake(Cause::Twice, &name));
        }
        let addr = self.own_addr(line)?;
        let to = line.next("`to GROUP`")?;
        if to != "to" {
            return Err(line.mistake(Cause::UnknownOption, to));
        }
        let group = self.group_named(line)?;
        let mut listen = Listen { name, addr, group, proxy_in: false, tls: None };
        let mut tls = Words::default();
        while let Some(word) = line.words.next() {
            match word {
                "proxy-in" => listen.proxy_in = true,
                other => tls.take(line, other)?,
            }
        }
        listen.tls = tls.of_listener(line)?.map(Arc::new);
        let full = Cause::TooMany("listeners", LISTENERS);
        self.listeners.push(listen).map_err(|_| line.mistake(full, ""))
    }

    fn group(&mut self, line: &mut Line<'_>) -> Result<()> {
        let name = line.name()?;
        if self.groups.iter().any(|other| other.name == name) {
            return Err(line.mistake(Cause::Twice, &name));
        }
        let mut group = Group {
            name,
            balance: Balance::RoundRobin,
            check: None,
            rise: 2,
            fall: 3,
            wait: Duration::from_secs(5),
            retries: 2,
            proxy_out: ProxyOut::Off,
            tls: None,
        };
        let mut tls = Words::default();
        while let Some(word) = line.words.next() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "balance" => {
                    group.balance = match value {
                        "round-robin" => Balance::RoundRobin,
                        "least" => Balance::Least,
                        "client" => Balance::Client,
                        other => return Err(line.mistake(Cause::NotABalance, other)),
                    }
                }
                "check" => group.check = Some(line.span(value)?),
                "rise" => group.rise = line.number(value, 1, 100)?,
                "fall" => group.fall = line.number(value, 1, 100)?,
                "wait" => group.wait = line.span(value)?,
                "retries" => group.retries = line.number(value, 0, SERVERS as u32)?,
                "proxy-out" => {
                    group.proxy_out = match value {
                        "off" => ProxyOut::Off,
                        "v1" => ProxyOut::V1,
                        "v2" => ProxyOut::V2,
                        other => return Err(line.mistake(Cause::NotAHeader, other)),
                    }
                }
                _ => tls.take(line, word)?,
            }
        }
        group.tls = tls.of_group(line)?.map(Arc::new);
        let full = Cause::TooMany("groups", GROUPS);
        self.groups.push(group).map_err(|_| line.mistake(full, ""))
    }

    fn server(&mut self, line: &mut Line<'_>) -> Result<()> {
        let group = self.group_named(line)?;
        let word = line.words.clone().next().unwrap_or_default();
        let addr = line.addr()?;
        if self.servers.iter().any(|other| other.group == group && other.addr == addr) {
            return Err(line.mistake(Cause::Twice, word));
        }
        let mut server = Server { group, addr, max: u32::MAX };
        while let Some(word) = line.words.next() {
            match word.split_once('=') {
                Some(("max", value)) => server.max = line.number(value, 1, 1 << 20)?,
                _ => return Err(line.mistake(Cause::UnknownOption, word)),
            }
        }
        let full = Cause::TooMany("servers", SERVERS);
        self.servers.push(server).map_err(|_| line.mistake(full, ""))
    }

    /// What only the whole file tells.
    fn complete(&self) -> Result<()> {
        let whole = Line::whole();
        if self.listeners.is_empty() {
            return Err(whole.mistake(Cause::NoListener, ""));
        }
        for (nth, group) in self.groups.iter().enumerate() {
            if !self.servers.iter().any(|server| server.group == nth) {
                return Err(whole.mistake(Cause::NoServer, &group.name));
            }
            if !self.listeners.iter().any(|listen| listen.group == nth) {
                return Err(whole.mistake(Cause::Unused, &group.name));
            }
        }
        Ok(())
    }

    /// What is said of TLS, on listeners and groups.
    pub fn terms(&self) -> impl Iterator<Item = &Terms> {
        let listeners = self.listeners.iter().filter_map(|listen| listen.tls.as_deref());
        listeners.chain(self.groups.iter().filter_map(|group| group.tls.as_deref()))
    }

    /// Whether this one may follow `old` while it runs.
    pub fn follows(&self, old: &Self) -> Result<()> {
        let whole = Line::whole();
        let groups =
            |config: &Self, nth: usize| config.groups[config.listeners[nth].group].name.clone();
        let same = self.metrics == old.metrics
            && self.listeners.len() == old.listeners.len()
            && self.listeners.iter().zip(&old.listeners).enumerate().all(
                |(nth, (new, old_one))| {
                    new.name == old_one.name
                        && new.addr == old_one.addr
                        && new.proxy_in == old_one.proxy_in
                        && new.tls.is_some() == old_one.tls.is_some()
                        && groups(self, nth) == groups(old, nth)
                },
            );
        if same { Ok(()) } else { Err(whole.mistake(Cause::ListenersChanged, "")) }
    }
}

#[cfg(test)]
mod tests;
