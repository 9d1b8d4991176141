//! What can be wrong in a configuration: where, which word, and what would be right.

use core::fmt;

use heapless::String;

use super::{FILE_MAX, NAME};

/// What is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// From 1; 0 is the whole file.
    pub line: usize,
    pub cause: Cause,
    /// The word it is about.
    pub word: String<72>,
}

/// What can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "without TLS less can be wrong"))]
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
    BuiltWithout,
    Needs(&'static str),
    NameOfListener,
    NotAProtocol,
    NotAName,
    File(Fault),
}

/// What can be wrong with a file of certificates or keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "without TLS less can be wrong"))]
pub enum Fault {
    /// The system's error number.
    Unreadable(i32),
    TooLong,
    NotPem,
    NoCertificate,
    NoKey,
    BadCertificate,
    BadKey,
    NotItsKey,
}

impl Mistake {
    pub fn new(line: usize, cause: Cause, word: &str) -> Self {
        let mut kept = String::new();
        for c in word.chars().filter(|c| !c.is_control()) {
            if kept.push(c).is_err() {
                break; // as much as fits
            }
        }
        Self { line, cause, word: kept }
    }
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
            Cause::BuiltWithout => write!(
                f,
                "`{word}` needs TLS, which this program was built without: build it with \
                 `--features tls`"
            ),
            Cause::Needs(what) => write!(f, "`{word}=` is of no use without `{what}`"),
            Cause::NameOfListener => {
                write!(f, "a listener takes `tls` without a name: its certificate has the names")
            }
            Cause::NotAProtocol => {
                write!(f, "`{word}` is no protocol of 1 to 255 bytes, as h2 or http/1.1")
            }
            Cause::NotAName => write!(f, "`{word}` is no host name and no address"),
            Cause::File(fault) => write!(f, "`{word}`: {fault}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable(errno) => {
                return write!(f, "{}", std::io::Error::from_raw_os_error(*errno));
            }
            Self::TooLong => "the file is longer than 1 MiB",
            Self::NotPem => "what it holds is no PEM, or is cut",
            Self::NoCertificate => "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)",
            Self::NoKey => {
                "it holds no private key in PEM (-----BEGIN PRIVATE KEY-----); one that is encrypted \
                 is not taken"
            }
            Self::BadCertificate => "a certificate in it is malformed",
            Self::BadKey => "the key in it is malformed, or of a kind that is not taken",
            Self::NotItsKey => "it is not the key of the certificate beside it",
        })
    }
}
