//! What a handshake agreed on, and which way the data goes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ProtocolVersion};

/// What the handshake agreed on.
#[derive(Debug)]
pub struct Info {
    pub(super) version: ProtocolVersion,
    pub(super) suite: CipherSuite,
    pub(super) alpn: Option<Box<[u8]>>,
    pub(super) sni: Option<Box<str>>,
    pub(super) resumed: bool,
    pub(super) peer_certificates: Option<Vec<CertificateDer<'static>>>,
}

impl Info {
    /// The version of TLS.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// The cipher suite.
    pub fn suite(&self) -> CipherSuite {
        self.suite
    }

    /// The application protocol, where one was agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The host name that the client asked for, where it did. On the client, its own.
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// Whether an earlier session went on, without a new exchange of certificates.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The peer's certificates, its own first; kept only where the acceptor or connector was told to
    /// (`keep_peer_certificates`).
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.peer_certificates.as_deref()
    }
}

/// Who encrypts and decrypts the data of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataPath {
    /// The kernel: no allocation and no copy of kio's a record.
    Kernel,
    /// rustls, for this reason: one allocation a record each way.
    UserSpace(Reason),
}

/// Why the kernel does not do a connection's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// [`Mode::Off`](super::Mode::Off) was asked for.
    Off,
    /// The kernel's `tls` module is not there.
    NoModule,
    /// The kernel does not know this cipher suite in this version of TLS.
    Cipher(CipherSuite),
    /// The connection has no real descriptor, which the kernel's set-up goes by.
    NoDescriptor,
    /// Bytes behind the handshake had been received already.
    BytesReceived,
    /// The kernel refused the set-up with this error number.
    Refused(i32),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("it is switched off (`Mode::Off`)"),
            Self::NoModule => f.write_str(
                "the kernel's `tls` module is not loaded: `modprobe tls` as root, and a line `tls` in \
                 /etc/modules-load.d (CONFIG_TLS must be in the kernel)",
            ),
            Self::Cipher(suite) => write!(f, "the kernel does not know the cipher {suite:?}"),
            Self::NoDescriptor => f.write_str(
                "the connection has no real descriptor: listen with `real_fds`, connect with \
                 `real_fd`",
            ),
            Self::BytesReceived => f.write_str(
                "bytes behind the handshake had been received already: hand streams over before \
                 they receive",
            ),
            Self::Refused(errno) => write!(f, "the kernel refused the set-up, error {errno}"),
        }
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("kernel"),
            Self::UserSpace(why) => write!(f, "user space: {why}"),
        }
    }
}
