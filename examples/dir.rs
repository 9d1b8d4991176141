//! What `log`, `static_files` and `tls_files` share: where to listen, and their directory, given on the
//! command line.
#![allow(dead_code, reason = "an example may keep them in a state of its own")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kio::{Core, Error, Result};

/// The state of each worker: what is known at run time only.
pub struct Dir(SocketAddr, PathBuf);

impl kio::State for Dir {
    type Args = (SocketAddr, PathBuf);

    fn init(_: Core, (addr, dir): &Self::Args) -> Result<Self> {
        Ok(Self(*addr, dir.clone()))
    }
}

impl Dir {
    /// Where to listen, for the line of `listen`.
    pub fn addr(&self) -> SocketAddr {
        self.0
    }

    /// The directory of relative paths, for the line of `root`.
    pub fn path(&self) -> &Path {
        &self.1
    }
}

/// The first argument, or `default` where there is none; and the second, or this directory.
pub fn from_args(default: &str) -> Result<(SocketAddr, PathBuf)> {
    let mut args = std::env::args_os().skip(1);
    let addr = args.next().unwrap_or_else(|| default.into());
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".".into()));
    match addr.to_str().and_then(|addr| addr.parse().ok()) {
        Some(addr) if dir.is_dir() => Ok((addr, dir)),
        Some(_) => Err(Error::Other("the second argument is a directory that is there")),
        None => Err(Error::Other("the first argument is an address as in 127.0.0.1:8080")),
    }
}
