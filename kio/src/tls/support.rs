//! What the kernel's TLS does here, found by trying it on loopback connections.

use core::fmt;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use super::info::Reason;
use crate::ring::ktls::{self, Cipher, Direction, Keys, Refused, Version};

/// What the kernel's TLS does on this machine. Its `Display` is a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Support {
    /// Why it does nothing, if so.
    pub missing: Option<Reason>,
    /// Ciphers it does in TLS 1.2.
    pub tls12: Ciphers,
    /// Ciphers it does in TLS 1.3.
    pub tls13: Ciphers,
    /// Keys of a running connection can be changed (Linux 6.14). Without it a peer that changes its
    /// keys ends the connection.
    pub rekey: bool,
}

/// Which ciphers the kernel does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Ciphers {
    /// AES-128-GCM.
    pub aes_128_gcm: bool,
    /// AES-256-GCM.
    pub aes_256_gcm: bool,
    /// ChaCha20-Poly1305.
    pub chacha20_poly1305: bool,
}

impl Support {
    pub(super) fn does(&self, version: Version, cipher: Cipher) -> bool {
        let ciphers = match version {
            Version::Tls12 => self.tls12,
            Version::Tls13 => self.tls13,
        };
        match cipher {
            Cipher::Aes128Gcm => ciphers.aes_128_gcm,
            Cipher::Aes256Gcm => ciphers.aes_256_gcm,
            Cipher::Chacha20Poly1305 => ciphers.chacha20_poly1305,
        }
    }
}

/// What the kernel's TLS does here. The first call tries it, on seven loopback connections of a
/// moment; the answer is kept for the life of the process, so load the module before.
pub fn support() -> Support {
    static SUPPORT: OnceLock<Support> = OnceLock::new();
    *SUPPORT.get_or_init(probe)
}

fn probe() -> Support {
    let none = Support {
        missing: None,
        tls12: Ciphers::default(),
        tls13: Ciphers::default(),
        rekey: false,
    };
    let found = || -> Result<Support, Reason> {
        let of = |error: std::io::Error| Reason::Refused(error.raw_os_error().unwrap_or(0));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(of)?;
        let addr = listener.local_addr().map_err(of)?;
        // What is tried has to stay connected: its other end waits in the backlog.
        let try_keys = |version, cipher, times| {
            let socket = TcpStream::connect(addr).map_err(of)?;
            let fd = socket.as_raw_fd();
            ktls::use_tls(fd).map_err(Reason::of)?;
            Ok((1..=times).all(|seed| set(fd, version, cipher, seed)))
        };
        let ciphers = |version| {
            Ok(Ciphers {
                aes_128_gcm: try_keys(version, Cipher::Aes128Gcm, 1)?,
                aes_256_gcm: try_keys(version, Cipher::Aes256Gcm, 1)?,
                chacha20_poly1305: try_keys(version, Cipher::Chacha20Poly1305, 1)?,
            })
        };
        Ok(Support {
            tls12: ciphers(Version::Tls12)?,
            tls13: ciphers(Version::Tls13)?,
            rekey: try_keys(Version::Tls13, Cipher::Aes128Gcm, 2)?,
            ..none
        })
    };
    found().unwrap_or_else(|why| Support { missing: Some(why), ..none })
}

/// Sets keys to send with, made of `seed`.
fn set(fd: i32, version: Version, cipher: Cipher, seed: u8) -> bool {
    let key = [seed; 32];
    let key = if cipher == Cipher::Aes128Gcm { &key[..16] } else { &key[..] };
    let keys = Keys { version, cipher, key, iv: &[seed; 12], sequence: 0 };
    ktls::set_keys(fd, Direction::Send, &keys).is_ok()
}

impl Reason {
    /// Why the kernel did not take the protocol.
    pub(super) fn of(refused: Refused) -> Self {
        match refused {
            Refused::NoModule => Self::NoModule,
            Refused::NoDescriptor => Self::NoDescriptor,
            Refused::ReadAhead => Self::BytesReceived,
            Refused::Os(errno) => Self::Refused(errno),
            Refused::NotConnected => Self::Refused(libc::ENOTCONN),
            Refused::Twice => Self::Refused(libc::EEXIST),
            Refused::NoRekey => Self::Refused(libc::EBUSY),
            Refused::NoCipher | Refused::Unsent | Refused::Stopped => Self::Refused(libc::EINVAL),
        }
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.missing {
            return write!(f, "no kernel TLS: {why}");
        }
        let yes = |is| if is { "yes" } else { "no " };
        writeln!(f, "kernel TLS          1.2  1.3")?;
        for (name, cipher) in [
            ("AES-128-GCM", Cipher::Aes128Gcm),
            ("AES-256-GCM", Cipher::Aes256Gcm),
            ("ChaCha20-Poly1305", Cipher::Chacha20Poly1305),
        ] {
            let [old, new] = [Version::Tls12, Version::Tls13].map(|v| yes(self.does(v, cipher)));
            writeln!(f, "{name:<19} {old}  {new}")?;
        }
        write!(f, "key updates (6.14)       {}", yes(self.rekey).trim_end())
    }
}
