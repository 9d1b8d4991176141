//! What the examples share: the address to listen on, given on the command line.
#![allow(dead_code, reason = "an example may keep the address in a state of its own")]

use std::net::SocketAddr;

use kio::{Core, Error, Result};

/// The state of each worker: what is known at run time only.
pub struct Addr(SocketAddr);

impl kio::State for Addr {
    type Args = SocketAddr;

    fn init(_: Core, addr: &SocketAddr) -> Result<Self> {
        Ok(Self(*addr))
    }
}

impl Addr {
    /// Where to listen, for the line of `listen`.
    pub fn get(&self) -> SocketAddr {
        self.0
    }
}

/// The first argument, or `default` where there is none.
pub fn from_args(default: &str) -> Result<SocketAddr> {
    let addr = std::env::args().nth(1);
    addr.as_deref()
        .unwrap_or(default)
        .parse()
        .map_err(|_| Error::Other("the argument is an address as in 127.0.0.1:8080 or [::1]:8080"))
}
