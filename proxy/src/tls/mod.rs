//! TLS on either side: acceptors of listeners and connectors of groups, made of the files that the
//! configuration names.
//!
//! `with` makes them by kio's feature `tls`. Without the feature `without` stands there instead, with the
//! same names and nothing behind them: a configuration cannot ask for TLS then, so that the rest of the
//! program has no second face.

use crate::config::{Config, Fault};

#[cfg(feature = "tls")]
mod with;
#[cfg(feature = "tls")]
pub use with::*;

#[cfg(not(feature = "tls"))]
mod without;
#[cfg(not(feature = "tls"))]
pub use without::*;

/// Bytes of a file of certificates: all authorities of a system are a quarter of that.
pub const FILE_MAX: usize = 1 << 20;

/// The files that a configuration names, read.
#[derive(Default)]
pub struct Files(Vec<(String, Result<Vec<u8>, Fault>)>);

impl Files {
    /// Reads all of them, blocking: for the start.
    pub fn read(config: &Config) -> Self {
        let mut files = Self::default();
        for path in names(config) {
            let read = std::fs::read(&path)
                .map_err(|error| Fault::Unreadable(error.raw_os_error().unwrap_or_default()));
            files.put(path, read);
        }
        files
    }

    /// Keeps what a file held.
    pub fn put(&mut self, path: String, read: Result<Vec<u8>, Fault>) {
        let fits =
            |bytes: Vec<u8>| if bytes.len() > FILE_MAX { Err(Fault::TooLong) } else { Ok(bytes) };
        self.0.push((path, read.and_then(fits)));
    }

    #[cfg(feature = "tls")]
    fn get(&self, path: &str) -> Result<&[u8], Fault> {
        match self.0.iter().find(|(name, _)| name == path) {
            Some((_, Ok(bytes))) => Ok(bytes),
            Some((_, Err(fault))) => Err(*fault),
            None => Err(Fault::Unreadable(0)),
        }
    }
}

/// The files that a configuration names, each once.
pub fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> =
        config.terms().flat_map(|terms| terms.files()).map(Into::into).collect();
    names.sort_unstable();
    names.dedup();
    names
}
