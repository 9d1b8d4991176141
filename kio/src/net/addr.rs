//! Socket addresses as callers write them.

use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::error::{Error, Result};

/// What names a socket address without asking anybody: an address, or text such as
/// `"127.0.0.1:80"` or `"[::1]:80"`. Host names are resolved with `Core::resolve`, or before the
/// pool starts.
pub trait ToAddr {
    /// The address.
    fn to_addr(&self) -> Result<SocketAddr>;
}

impl ToAddr for SocketAddr {
    fn to_addr(&self) -> Result<SocketAddr> {
        Ok(*self)
    }
}

impl ToAddr for SocketAddrV4 {
    fn to_addr(&self) -> Result<SocketAddr> {
        Ok((*self).into())
    }
}

impl ToAddr for SocketAddrV6 {
    fn to_addr(&self) -> Result<SocketAddr> {
        Ok((*self).into())
    }
}

impl<I: Into<IpAddr> + Copy> ToAddr for (I, u16) {
    fn to_addr(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.0.into(), self.1))
    }
}

impl ToAddr for str {
    fn to_addr(&self) -> Result<SocketAddr> {
        self.parse().map_err(|_| {
            Error::Other("not a socket address: write `127.0.0.1:80` or `[::1]:80`, not a name")
        })
    }
}

impl<A: ToAddr + ?Sized> ToAddr for &A {
    fn to_addr(&self) -> Result<SocketAddr> {
        (**self).to_addr()
    }
}
