//! What the file says of TLS. These words alone are on the heap, where TLS keeps all it has: a copy of
//! the configuration shares them.

use std::string::String;
use std::vec::Vec;

#[cfg(feature = "tls")]
use super::Mistake;
use super::{Cause, Line, Result};

/// `tls cert=FILE key=FILE [alpn=A,B] [ca=FILE]` on a listener,
/// `tls=NAME ca=FILE [alpn=A,B] [cert=FILE key=FILE]` on a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Where the file says so.
    pub line: usize,
    /// Whom a server's certificate must name; none on a listener.
    pub name: Option<String>,
    /// This side's certificates and their key, as files.
    pub own: Option<(String, String)>,
    /// The file of authorities, of which one must have issued the other side's certificate.
    pub ca: Option<String>,
    /// Application protocols, the best first.
    pub alpn: Vec<Vec<u8>>,
}

/// The words of TLS on one line.
#[derive(Default)]
pub struct Words<'a> {
    tls: Option<&'a str>,
    cert: Option<&'a str>,
    key: Option<&'a str>,
    ca: Option<&'a str>,
    alpn: Option<&'a str>,
}

impl<'a> Words<'a> {
    /// Takes a word, if it is one of these.
    pub fn take(&mut self, line: &Line<'_>, word: &'a str) -> Result<()> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let (place, what) = match key {
            "tls" => (&mut self.tls, "a name"),
            "cert" => (&mut self.cert, "a file"),
            "key" => (&mut self.key, "a file"),
            "ca" => (&mut self.ca, "a file"),
            "alpn" => (&mut self.alpn, "a protocol"),
            _ => return Err(line.mistake(Cause::UnknownOption, word)),
        };
        if !cfg!(feature = "tls") {
            return Err(line.mistake(Cause::BuiltWithout, word));
        }
        if place.is_some() {
            return Err(line.mistake(Cause::Twice, key));
        }
        if value.is_empty() && word != "tls" {
            return Err(line.mistake(Cause::Missing(what), word));
        }
        *place = Some(value);
        Ok(())
    }

    /// What they make on a listener.
    pub fn of_listener(self, line: &Line<'_>) -> Result<Option<Terms>> {
        match self.tls {
            None => self.nothing(line, "tls"),
            Some("") if self.own(line)?.is_none() => {
                Err(line.mistake(Cause::Missing("`cert=FILE key=FILE`"), "tls"))
            }
            Some("") => self.terms(line, None),
            Some(_) => Err(line.mistake(Cause::NameOfListener, "tls")),
        }
    }

    /// What they make on a group.
    pub fn of_group(self, line: &Line<'_>) -> Result<Option<Terms>> {
        match self.tls {
            None => self.nothing(line, "tls=NAME"),
            Some("") => Err(line
                .mistake(Cause::Missing("`=NAME`, whom the servers' certificates name,"), "tls")),
            Some(_) if self.ca.is_none() => {
                Err(line.mistake(Cause::Missing("`ca=FILE`, whom to trust,"), "tls"))
            }
            Some(name) => self.terms(line, Some(name)),
        }
    }

    /// Without TLS there may be none of the others.
    fn nothing(self, line: &Line<'_>, needs: &'static str) -> Result<Option<Terms>> {
        let others = [("cert", self.cert), ("key", self.key), ("ca", self.ca), ("alpn", self.alpn)];
        match others.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => Err(line.mistake(Cause::Needs(needs), key)),
            None => Ok(None),
        }
    }

    fn own(&self, line: &Line<'_>) -> Result<Option<(String, String)>> {
        match (self.cert, self.key) {
            (Some(cert), Some(key)) => Ok(Some((cert.into(), key.into()))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(line.mistake(Cause::Needs("key=FILE"), "cert")),
            (None, Some(_)) => Err(line.mistake(Cause::Needs("cert=FILE"), "key")),
        }
    }

    fn terms(self, line: &Line<'_>, name: Option<&str>) -> Result<Option<Terms>> {
        let mut alpn = Vec::new();
        for protocol in self.alpn.into_iter().flat_map(|list| list.split(',')) {
            // One byte tells its length.
            if protocol.is_empty() || protocol.len() > 255 {
                return Err(line.mistake(Cause::NotAProtocol, protocol));
            }
            alpn.push(protocol.as_bytes().to_vec());
        }
        Ok(Some(Terms {
            line: line.number,
            name: name.map(String::from),
            own: self.own(line)?,
            ca: self.ca.map(String::from),
            alpn,
        }))
    }
}

impl Terms {
    /// The files they name.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let own = self.own.iter().flat_map(|(cert, key)| [cert, key]);
        own.chain(&self.ca).map(String::as_str)
    }

    /// A mistake on their line.
    #[cfg(feature = "tls")]
    pub fn mistake(&self, cause: Cause, word: &str) -> Mistake {
        Mistake::new(self.line, cause, word)
    }
}
