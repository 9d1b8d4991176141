//! What the configuration file says, in tables of a fixed size, so that reading it anew while serving
//! allocates nothing. One line is one statement; `parse` tells of a mistake by its line and cause.

use core::fmt;
use core::net::SocketAddr;
use core::str::SplitWhitespace;
use core::time::Duration;

use heapless::{String, Vec};

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

/// `listen NAME ADDR to GROUP [proxy-in]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    pub name: Name,
    pub addr: SocketAddr,
    pub group: usize,
    pub proxy_in: bool,
}

/// `group NAME [balance=..] [check=..] [rise=N] [fall=N] [wait=..] [retries=N] [proxy-out=..]`
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

/// What is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// From 1; 0 is the whole file.
    pub line: usize,
    pub cause: Cause,
    /// The word it is about.
    pub word: String<64>,
}

/// What can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    NotText,
    TooLong,
    UnknownStatement,
    Missing(&'static str),
    UnknownOption,
    NotAnAddress,
    NotASpan,
    NotANumber,
    OutOfRange(u32, u32),
    NotABalance,
    NotAHeader,
    LongName,
    Twice,
    UnknownGroup,
    TooMany(&'static str, usize),
    NoListener,
    NoServer,
    Unused,
    ListenersChanged,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => {}
            line => write!(f, "line {line}: ")?,
        }
        let word = &self.word;
        match self.cause {
            Cause::NotText => write!(f, "not UTF-8"),
            Cause::TooLong => write!(f, "the file is longer than {FILE_MAX} bytes"),
            Cause::UnknownStatement => write!(
                f,
                "unknown statement `{word}`: one of listen, group, server, metrics, window, \
                 connect-timeout, idle-timeout, header-timeout"
            ),
            Cause::Missing(what) => write!(f, "{what} is missing after `{word}`"),
            Cause::UnknownOption => write!(f, "unknown option `{word}`"),
            Cause::NotAnAddress => {
                write!(f, "`{word}` is no address: IP:PORT, as 10.0.0.1:80 or [::1]:80")
            }
            Cause::NotASpan => write!(f, "`{word}` is no time: a number and ms, s or m, above 0"),
            Cause::NotANumber => write!(f, "`{word}` is no number"),
            Cause::OutOfRange(low, high) => write!(f, "`{word}` is not within {low} to {high}"),
            Cause::NotABalance => {
                write!(f, "`{word}` is no balance: round-robin, least or client")
            }
            Cause::NotAHeader => write!(f, "`{word}` is no PROXY header: off, v1 or v2"),
            Cause::LongName => write!(f, "`{word}..` is longer than {NAME} bytes"),
            Cause::Twice => write!(f, "`{word}` is there already"),
            Cause::UnknownGroup => write!(f, "there is no group `{word}` above this line"),
            Cause::TooMany(what, most) => write!(f, "more than {most} {what}"),
            Cause::NoListener => write!(f, "nothing listens: add `listen NAME ADDR to GROUP`"),
            Cause::NoServer => {
                write!(f, "the group `{word}` has no server: add `server {word} ADDR`")
            }
            Cause::Unused => write!(f, "the group `{word}` is used by no listener"),
            Cause::ListenersChanged => write!(
                f,
                "listeners and `metrics` cannot change while it runs: restart, or put them back"
            ),
        }
    }
}

type Result<T> = core::result::Result<T, Mistake>;

/// The words of one line.
struct Line<'a> {
    number: usize,
    words: SplitWhitespace<'a>,
    /// The word before.
    last: &'a str,
}

impl<'a> Line<'a> {
    fn mistake(&self, cause: Cause, word: &str) -> Mistake {
        let mut kept = String::new();
        for c in word.chars().filter(|c| !c.is_control()).take(kept.capacity() / 4) {
            let _ = kept.push(c);
        }
        Mistake { line: self.number, cause, word: kept }
    }

    fn next(&mut self, what: &'static str) -> Result<&'a str> {
        match self.words.next() {
            Some(word) => {
                self.last = word;
                Ok(word)
            }
            None => Err(self.mistake(Cause::Missing(what), self.last)),
        }
    }

    fn addr(&mut self) -> Result<SocketAddr> {
        let word = self.next("an address")?;
        word.parse().map_err(|_| self.mistake(Cause::NotAnAddress, word))
    }

    fn name(&mut self) -> Result<Name> {
        let word = self.next("a name")?;
        Name::try_from(word).map_err(|_| self.mistake(Cause::LongName, word))
    }

    fn span(&self, word: &str) -> Result<Duration> {
        let bad = || self.mistake(Cause::NotASpan, word);
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let n: u32 = word[..digits].parse().map_err(|_| bad())?;
        let span = match &word[digits..] {
            "ms" => Duration::from_millis(n.into()),
            "s" => Duration::from_secs(n.into()),
            "m" => Duration::from_secs(u64::from(n) * 60),
            _ => return Err(bad()),
        };
        if span.is_zero() { Err(bad()) } else { Ok(span) }
    }

    fn number(&self, word: &str, low: u32, high: u32) -> Result<u32> {
        let n = word.parse().map_err(|_| self.mistake(Cause::NotANumber, word))?;
        match (low..=high).contains(&n) {
            true => Ok(n),
            false => Err(self.mistake(Cause::OutOfRange(low, high), word)),
        }
    }

    fn only_span(&mut self) -> Result<Duration> {
        let word = self.next("a time")?;
        self.span(word)
    }

    fn end(&mut self) -> Result<()> {
        match self.words.next() {
            Some(word) => Err(self.mistake(Cause::UnknownOption, word)),
            None => Ok(()),
        }
    }
}

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
        let whole = Line { number: 0, words: "".split_whitespace(), last: "" };
        if bytes.len() > FILE_MAX {
            return Err(whole.mistake(Cause::TooLong, ""));
        }
        let text = core::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let number = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            Line { number, ..whole }.mistake(Cause::NotText, "")
        })?;
        let mut config = Self::EMPTY;
        for (nth, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut line = Line { number: nth + 1, words: line.split_whitespace(), last: "" };
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
        let mut listen = Listen { name, addr, group, proxy_in: false };
        while let Some(word) = line.words.next() {
            match word {
                "proxy-in" => listen.proxy_in = true,
                other => return Err(line.mistake(Cause::UnknownOption, other)),
            }
        }
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
        };
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
                _ => return Err(line.mistake(Cause::UnknownOption, word)),
            }
        }
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
        let whole = Line { number: 0, words: "".split_whitespace(), last: "" };
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

    /// Whether this one may follow `old` while it runs.
    pub fn follows(&self, old: &Self) -> Result<()> {
        let whole = Line { number: 0, words: "".split_whitespace(), last: "" };
        let groups =
            |config: &Self, nth: usize| config.groups[config.listeners[nth].group].name.clone();
        let same = self.metrics == old.metrics
            && self.listeners.len() == old.listeners.len()
            && self.listeners.iter().zip(&old.listeners).enumerate().all(
                |(nth, (new, old_one))| {
                    new.name == old_one.name
                        && new.addr == old_one.addr
                        && new.proxy_in == old_one.proxy_in
                        && groups(self, nth) == groups(old, nth)
                },
            );
        if same { Ok(()) } else { Err(whole.mistake(Cause::ListenersChanged, "")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# a proxy
connect-timeout 2s
idle-timeout 1m      # per connection
header-timeout 500ms
window 8
metrics 127.0.0.1:9100
group app balance=least check=2s rise=1 fall=2 wait=3s retries=1 proxy-out=v2
group db balance=client
listen web 127.0.0.1:8080 to app proxy-in
listen pg [::1]:5432 to db
server app 10.0.0.1:80 max=100
server app 10.0.0.2:80
server db 10.0.0.3:5432
";

    #[test]
    fn every_statement_is_read() {
        let config = Config::parse(GOOD.as_bytes()).expect("it is right");
        assert_eq!(config.connect_timeout, Duration::from_secs(2));
        assert_eq!(config.idle_timeout, Duration::from_secs(60));
        assert_eq!(config.header_timeout, Duration::from_millis(500));
        assert_eq!((config.window, config.groups.len(), config.servers.len()), (8, 2, 3));
        assert!(config.listeners[0].proxy_in && !config.listeners[1].proxy_in);
        let app = &config.groups[0];
        assert_eq!((app.balance, app.rise, app.fall), (Balance::Least, 1, 2));
        assert_eq!((app.retries, app.proxy_out), (1, ProxyOut::V2));
        assert_eq!(config.servers[0].max, 100);
        assert_eq!(config.listeners[1].group, 1);
    }

    /// What is told of `GOOD` with one line instead of another.
    fn told(line: usize, text: &str) -> std::string::String {
        let mut lines: std::vec::Vec<&str> = GOOD.lines().collect();
        lines[line - 1] = text;
        let mistake = Config::parse(lines.join("\n").as_bytes()).expect_err("it is wrong");
        mistake.to_string()
    }

    #[test]
    fn a_mistake_at_each_place_names_its_line_and_cause() {
        for (line, text, cause) in [
            (2, "connect-timeout", "line 2: a time is missing after `connect-timeout`"),
            (2, "connect-timeout 0s", "line 2: `0s` is no time"),
            (3, "idle-timeout 5", "line 3: `5` is no time"),
            (3, "idle-timeout 5s more", "line 3: unknown option `more`"),
            (4, "header-timeout fast", "line 4: `fast` is no time"),
            (5, "window 0", "line 5: `0` is not within 1 to"),
            (5, "window many", "line 5: `many` is no number"),
            (6, "metrics here", "line 6: `here` is no address"),
            (6, "metrics localhost:80", "line 6: `localhost:80` is no address"),
            (7, "group", "line 7: a name is missing after `group`"),
            (7, "group app balance=best", "line 7: `best` is no balance"),
            (7, "group app check=often", "line 7: `often` is no time"),
            (7, "group app rise=0", "line 7: `0` is not within 1 to 100"),
            (7, "group app fall=x", "line 7: `x` is no number"),
            (7, "group app wait=", "line 7: `` is no time"),
            (7, "group app retries=65", "line 7: `65` is not within 0 to 64"),
            (7, "group app proxy-out=v3", "line 7: `v3` is no PROXY header"),
            (7, "group app colour=red", "line 7: unknown option `colour=red`"),
            (8, "group app", "line 8: `app` is there already"),
            (
                9,
                "listen web 127.0.0.1:8080",
                "line 9: `to GROUP` is missing after `127.0.0.1:8080`",
            ),
            (9, "listen web 127.0.0.1:8080 app", "line 9: unknown option `app`"),
            (9, "listen web 127.0.0.1:8080 to", "line 9: a group is missing after `to`"),
            (9, "listen web 127.0.0.1:8080 to gone", "line 9: there is no group `gone`"),
            (9, "listen web 127.0.0.1:99999 to app", "line 9: `127.0.0.1:99999` is no address"),
            (9, "listen web 127.0.0.1:1 to app tls", "line 9: unknown option `tls`"),
            (10, "listen web 127.0.0.1:1 to db", "line 10: `web` is there already"),
            (10, "listen pg 127.0.0.1:8080 to db", "line 10: `127.0.0.1:8080` is there already"),
            (10, "listen pg 127.0.0.1:9100 to db", "line 10: `127.0.0.1:9100` is there already"),
            (11, "server", "line 11: a group is missing after `server`"),
            (11, "server app", "line 11: an address is missing after `app`"),
            (11, "server nope 10.0.0.1:80", "line 11: there is no group `nope`"),
            (11, "server app 10.0.0.1:80 max=0", "line 11: `0` is not within 1 to"),
            (11, "server app 10.0.0.1:80 min=1", "line 11: unknown option `min=1`"),
            (12, "server app 10.0.0.1:80", "line 12: `10.0.0.1:80` is there already"),
            (13, "serve db 10.0.0.3:5432", "line 13: unknown statement `serve`"),
            (13, "", "the group `db` has no server"),
            (10, "", "the group `db` is used by no listener"),
        ] {
            let told = told(line, text);
            assert!(told.starts_with(cause), "`{text}` is told as: {told}");
        }
    }

    #[test]
    fn a_file_of_anything_is_refused_and_nothing_else() {
        let long = "group ".to_string() + &"a".repeat(33);
        let mistake = Config::parse(long.as_bytes()).expect_err("it is wrong");
        assert!(matches!(mistake.cause, Cause::LongName));
        let mistake = Config::parse(b"group a\n\xff").expect_err("it is wrong");
        assert_eq!((mistake.line, mistake.cause), (2, Cause::NotText));
        let mistake = Config::parse(b"").expect_err("it is wrong");
        assert_eq!(mistake.cause, Cause::NoListener);
        let mistake = Config::parse(&vec![b'\n'; FILE_MAX + 1]).expect_err("it is wrong");
        assert_eq!(mistake.cause, Cause::TooLong);
        let many: std::string::String = (0..17).map(|n| format!("group g{n}\n")).collect();
        let mistake = Config::parse(many.as_bytes()).expect_err("it is wrong");
        assert_eq!((mistake.line, mistake.cause), (17, Cause::TooMany("groups", 16)));
        let mut random = 7u32;
        for _ in 0..2000 {
            let bytes: std::vec::Vec<u8> = GOOD
                .bytes()
                .map(|byte| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if random >> 24 == 0 { (random >> 8) as u8 } else { byte }
                })
                .collect();
            let _ = Config::parse(&bytes); // and no panic
        }
    }

    #[test]
    fn only_listeners_must_stay() {
        let old = Config::parse(GOOD.as_bytes()).expect("it is right");
        let servers = GOOD.replace("server app 10.0.0.2:80", "server app 10.0.0.9:80 max=3");
        let new = Config::parse(servers.as_bytes()).expect("it is right");
        assert!(new.follows(&old).is_ok());
        let moved = GOOD.replace("127.0.0.1:8080", "127.0.0.1:8081");
        let new = Config::parse(moved.as_bytes()).expect("it is right");
        let mistake = new.follows(&old).expect_err("a listener moved");
        assert_eq!(mistake.cause, Cause::ListenersChanged);
    }
}
