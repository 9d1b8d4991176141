//! What goes wrong in TLS, each with its cause and its remedy.

use core::fmt;

/// Why a TLS handshake or connection failed. Where it can be told to the peer, the alert that TLS
/// has for it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate was refused.
    Certificate(Refused),
    /// The two sides have nothing in common of what both must agree on.
    NothingInCommon(Common),
    /// The peer ended the connection with this alert; [`fmt::Display`] gives its name.
    Alert(u8),
    /// What arrived is no TLS record: plain HTTP on the TLS port, say.
    NotTls,
    /// A record did not decrypt: it was changed on the way, or the peer's keys differ.
    Corrupt,
    /// A record is larger than TLS allows.
    Oversized,
    /// The peer broke the protocol.
    Misbehaved,
    /// The peer sends more of something useless (key updates, warnings, empty records) than any
    /// honest one does.
    Storm,
    /// The connection ended without the peer's close_notify: what was received may be cut short.
    Truncated,
    /// The peer was gone before the handshake was done.
    HandshakeEnded,
    /// The handshake took longer than its deadline.
    HandshakeLate,
    /// The handshake took more bytes or records than an honest one does.
    HandshakeTooLong,
    /// The name to connect to is no host name and no address.
    BadName,
    /// Kernel TLS was required and cannot be had, for this reason.
    NoKernelTls(super::Reason),
    /// The keys have protected as many records as is safe, and this side cannot change them.
    KeysUsedUp,
    /// The peer changes its keys, and this kernel cannot (Linux 6.14 can).
    NoKeyUpdate,
    /// The configuration does not work, or the system lacks what it needs (time, random bytes);
    /// what rustls says of it is logged.
    Config,
}

/// Why a certificate was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// It is for other names than the one asked for.
    WrongName,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// None of the trusted authorities issued it.
    UnknownIssuer,
    /// It was revoked.
    Revoked,
    /// A signature is wrong.
    BadSignature,
    /// It is for another purpose, such as for clients only.
    WrongPurpose,
    /// It is malformed.
    Malformed,
    /// The peer gave none though one is required.
    Missing,
    /// For another reason, which is logged.
    Other,
}

/// What both sides must share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Common {
    /// A cipher suite.
    Cipher,
    /// A version of TLS.
    Version,
    /// An application protocol (ALPN).
    Protocol,
    /// A key exchange group.
    Group,
    /// A signature scheme, or a key that can be signed with.
    Signature,
    /// Some other feature.
    Feature,
}

impl TlsError {
    /// Whether a service meets it every day: what any peer can cause that gives no certificate.
    pub(crate) fn is_routine(&self) -> bool {
        !matches!(
            self,
            Self::Certificate(_)
                | Self::BadName
                | Self::NoKernelTls(_)
                | Self::NoKeyUpdate
                | Self::Config
        )
    }

    pub(crate) fn kind(&self) -> std::io::ErrorKind {
        use std::io::ErrorKind;
        match self {
            Self::Truncated | Self::HandshakeEnded => ErrorKind::UnexpectedEof,
            Self::HandshakeLate => ErrorKind::TimedOut,
            Self::BadName => ErrorKind::InvalidInput,
            Self::NoKernelTls(_) | Self::NoKeyUpdate => ErrorKind::Unsupported,
            Self::Config | Self::KeysUsedUp => ErrorKind::Other,
            _ => ErrorKind::InvalidData,
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS: ")?;
        let text = match self {
            Self::Certificate(why) => return why.describe(f),
            Self::NothingInCommon(what) => {
                return write!(f, "no {what} in common with the peer: compare both configurations");
            }
            Self::Alert(code) => {
                return match alert_name(*code) {
                    Some(name) => write!(f, "the peer ended the connection: {name} ({code})"),
                    None => write!(f, "the peer ended the connection: alert {code}"),
                };
            }
            Self::NoKernelTls(why) => return write!(f, "kernel TLS is required: {why}"),
            Self::NotTls => "what arrived is no TLS: does the peer speak plain text to this port?",
            Self::Corrupt => "a record did not decrypt: it was changed on the way",
            Self::Oversized => "a record is larger than TLS allows",
            Self::Misbehaved => "the peer broke the protocol",
            Self::Storm => "the peer sends more key updates, warnings or empty records than it may",
            Self::Truncated => {
                "the connection ended without close_notify: what was received may be cut short"
            }
            Self::HandshakeEnded => "the peer was gone before the handshake was done",
            Self::HandshakeLate => "the handshake took longer than its deadline",
            Self::HandshakeTooLong => "the handshake took more bytes or records than it may",
            Self::BadName => "the name to connect to is no host name and no address",
            Self::KeysUsedUp => "the keys have protected as many records as is safe: reconnect",
            Self::NoKeyUpdate => {
                "the peer changes its keys, which kernel TLS can from Linux 6.14 on: use `Mode::Off` \
                 for such peers"
            }
            Self::Config => {
                "the configuration does not work, or the system lacks time or random bytes; the log \
                 says which"
            }
        };
        f.write_str(text)
    }
}

impl Refused {
    fn describe(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::WrongName => "it is for other names than the one asked for",
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet: is the clock right?",
            Self::UnknownIssuer => "no trusted authority issued it: add its root to the roots",
            Self::Revoked => "it was revoked",
            Self::BadSignature => "a signature is wrong",
            Self::WrongPurpose => "it is for another purpose",
            Self::Malformed => "it is malformed",
            Self::Missing => "there is none, and one is required",
            Self::Other => "the log says why",
        };
        write!(f, "the peer's certificate was refused: {why}")
    }
}

impl fmt::Display for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cipher => "cipher suite",
            Self::Version => "version of TLS",
            Self::Protocol => "application protocol (ALPN)",
            Self::Group => "key exchange group",
            Self::Signature => "signature scheme",
            Self::Feature => "feature",
        })
    }
}

/// The alerts one meets, by RFC 8446 and RFC 5246.
fn alert_name(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "close_notify before the handshake was done",
        10 => "unexpected message",
        20 => "bad record MAC",
        22 => "record overflow",
        40 => "handshake failure: mostly nothing in common",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "certificate revoked",
        45 => "certificate expired",
        46 => "certificate unknown",
        47 => "illegal parameter",
        48 => "unknown certificate authority",
        49 => "access denied",
        50 => "decode error",
        51 => "decrypt error",
        70 => "protocol version",
        71 => "insufficient security",
        80 => "internal error",
        86 => "inappropriate fallback",
        90 => "user canceled",
        100 => "no renegotiation",
        109 => "missing extension",
        110 => "unsupported extension",
        112 => "unrecognized name",
        116 => "certificate required",
        120 => "no application protocol",
        _ => return None,
    })
}

impl From<TlsError> for crate::Error {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}
