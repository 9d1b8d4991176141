//! All contact with rustls' unbuffered and kernel interfaces, which 0.24 makes anew: nothing of them
//! is named outside this file.
//!
//! A [`Session`] is fed records and tells what came of them; what it wants to send is collected in
//! a `Vec` of the caller's. It does no input or output.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{
    CertificateError, ClientConfig, CommonState, HandshakeKind, PeerIncompatible, PeerMisbehaved,
    ServerConfig,
};

use super::error::{Common, Refused, TlsError};
use super::info::Info;

/// One side of a TLS connection, in user space.
pub(super) enum Session {
    /// With the name it asks for, unless that is an address.
    Client(UnbufferedClientConnection, Option<Box<str>>),
    Server(UnbufferedServerConnection),
}

/// What came of some records.
pub(super) struct Step {
    /// How many bytes from the front are done with.
    pub(super) consumed: usize,
    pub(super) event: Result<Event, TlsError>,
}

/// What a session is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// The handshake goes on once more arrives.
    Handshaking,
    /// Application data waits for [`Session::take_plain`].
    Data,
    /// The handshake is done, and the records hold nothing more that is whole.
    Open,
    /// The peer sent close_notify.
    Closed,
}

/// What encrypting gave.
pub(super) enum Sealed {
    /// So many bytes of records.
    Bytes(usize),
    /// The room is too small.
    TooSmall,
}

impl Session {
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, TlsError> {
        let sni = match &name {
            ServerName::DnsName(name) => Some(name.as_ref().into()),
            _ => None,
        };
        match UnbufferedClientConnection::new(config, name) {
            Ok(made) => Ok(Self::Client(made, sni)),
            Err(error) => Err(TlsError::of(&error)),
        }
    }

    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let made = UnbufferedServerConnection::new(config);
        made.map(Self::Server).map_err(|error| TlsError::of(&error))
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::Client(..))
    }

    fn common(&self) -> &CommonState {
        match self {
            Self::Client(conn, _) => conn,
            Self::Server(conn) => conn,
        }
    }

    /// Lets it have `records`, which begin with what was not consumed before, up to the next thing
    /// to tell. What it wants to send is added to `out`, an alert among it when it fails.
    pub(super) fn step(&mut self, records: &mut [u8], out: &mut Vec<u8>) -> Step {
        match self {
            Self::Client(conn, _) => step(conn, records, out, |conn, records| {
                UnbufferedConnectionCommon::<ClientConnectionData>::process_tls_records(
                    conn, records,
                )
            }),
            Self::Server(conn) => step(conn, records, out, |conn, records| {
                UnbufferedConnectionCommon::<ServerConnectionData>::process_tls_records(
                    conn, records,
                )
            }),
        }
    }

    /// Hands the application data of one record over.
    pub(super) fn take_plain(&mut self, mut take: impl FnMut(&[u8])) {
        // No records: what waits is decrypted already, and lies in rustls.
        match self {
            Self::Client(conn, _) => plain(conn.process_tls_records(&mut []), &mut take),
            Self::Server(conn) => plain(conn.process_tls_records(&mut []), &mut take),
        }
    }

    /// Encrypts `plain` into `room`, behind what rustls itself had still to send. `unread` is what
    /// was fed and not consumed.
    pub(super) fn seal(
        &mut self,
        unread: &mut [u8],
        plain: &[u8],
        room: &mut [u8],
    ) -> Result<Sealed, TlsError> {
        match self {
            Self::Client(conn, _) => seal(conn.process_tls_records(unread), Some(plain), room),
            Self::Server(conn) => seal(conn.process_tls_records(unread), Some(plain), room),
        }
    }

    /// Writes the close_notify alert into `room`.
    pub(super) fn seal_close(
        &mut self,
        unread: &mut [u8],
        room: &mut [u8],
    ) -> Result<Sealed, TlsError> {
        match self {
            Self::Client(conn, _) => seal(conn.process_tls_records(unread), None, room),
            Self::Server(conn) => seal(conn.process_tls_records(unread), None, room),
        }
    }

    /// Whether rustls has something of its own to send, which goes before application data.
    pub(super) fn wants_to_send(&self) -> bool {
        self.common().wants_write()
    }

    /// What the handshake, which is done, agreed on. The server name is not known here to a server.
    pub(super) fn info(&self, keep_certificates: bool) -> Option<Info> {
        let common = self.common();
        let certificates = || common.peer_certificates().map(<[_]>::to_vec);
        Some(Info {
            version: common.protocol_version()?,
            suite: common.negotiated_cipher_suite()?.suite(),
            alpn: common.alpn_protocol().map(Into::into),
            sni: match self {
                Self::Client(_, name) => name.clone(),
                Self::Server(_) => None,
            },
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            peer_certificates: if keep_certificates { certificates() } else { None },
        })
    }
}

type Status<'c, 'i, Data> = UnbufferedStatus<'c, 'i, Data>;

fn step<C, Data>(
    conn: &mut C,
    records: &mut [u8],
    out: &mut Vec<u8>,
    process: impl for<'c, 'i> Fn(&'c mut C, &'i mut [u8]) -> Status<'c, 'i, Data>,
) -> Step
where
    C: core::ops::Deref<Target: core::ops::Deref<Target = CommonState>>,
{
    let mut consumed = 0;
    loop {
        let UnbufferedStatus { discard, state } = process(conn, &mut records[consumed..]);
        let event = match state {
            Ok(ConnectionState::EncodeTlsData(mut chunk)) => {
                encode(|room| chunk.encode(room), out);
                None
            }
            // It goes out in order, so it may count as sent.
            Ok(ConnectionState::TransmitTlsData(sent)) => {
                sent.done();
                None
            }
            Ok(ConnectionState::ReadTraffic(_)) => Some(Ok(Event::Data)),
            Ok(ConnectionState::BlockedHandshake) => Some(Ok(Event::Handshaking)),
            Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(Event::Open)),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Ok(Event::Closed)),
            // Early data is not offered.
            Ok(_) => Some(Err(TlsError::Misbehaved)),
            Err(error) => Some(Err(TlsError::of(&error))),
        };
        consumed += discard;
        let Some(event) = event else { continue };
        if event.is_err() {
            // The alert. No records: nothing of them may be looked at again.
            while conn.wants_write() {
                match process(conn, &mut []).state {
                    Ok(ConnectionState::EncodeTlsData(mut chunk)) => {
                        encode(|room| chunk.encode(room), out);
                    }
                    _ => break,
                }
            }
        }
        return Step { consumed, event };
    }
}

fn encode(mut chunk: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>, out: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(size)) = chunk(&mut []) {
        let end = out.len();
        out.resize(end + size.required_size, 0);
        let written = chunk(&mut out[end..]).unwrap_or(0);
        out.truncate(end + written);
    }
}

fn plain<Data>(status: Status<'_, '_, Data>, take: &mut impl FnMut(&[u8])) {
    if let Ok(ConnectionState::ReadTraffic(mut traffic)) = status.state
        && let Some(Ok(record)) = traffic.next_record()
    {
        take(record.payload);
    }
}

/// Encrypts application data, or without any the close_notify alert.
fn seal<Data>(
    status: Status<'_, '_, Data>,
    plain: Option<&[u8]>,
    room: &mut [u8],
) -> Result<Sealed, TlsError> {
    let sealed = match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match plain {
            Some(plain) => traffic.encrypt(plain, room),
            None => traffic.queue_close_notify(room),
        },
        Ok(_) => return Err(TlsError::Config),
        Err(error) => return Err(TlsError::of(&error)),
    };
    match sealed {
        Ok(n) => Ok(Sealed::Bytes(n)),
        Err(EncryptError::InsufficientSize(_)) => Ok(Sealed::TooSmall),
        Err(EncryptError::EncryptExhausted) => Err(TlsError::KeysUsedUp),
    }
}

impl TlsError {
    /// rustls' error, by cause. Whatever has more to say than its name is logged.
    fn of(error: &rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(why) => Self::Certificate(Refused::of(why)),
            E::NoCertificatesPresented => Self::Certificate(Refused::Missing),
            E::PeerIncompatible(what) => Self::NothingInCommon(Common::of(what)),
            E::NoApplicationProtocol => Self::NothingInCommon(Common::Protocol),
            E::AlertReceived(alert) => Self::Alert(u8::from(*alert)),
            E::InvalidMessage(why) => Self::of_message(*why),
            E::DecryptError => Self::Corrupt,
            E::PeerSentOversizedRecord => Self::Oversized,
            E::PeerMisbehaved(
                PeerMisbehaved::TooManyEmptyFragments
                | PeerMisbehaved::TooManyKeyUpdateRequests
                | PeerMisbehaved::TooManyWarningAlertsReceived
                | PeerMisbehaved::TooManyRenegotiationRequests,
            ) => Self::Storm,
            E::UnsupportedNameType => Self::BadName,
            E::PeerMisbehaved(_)
            | E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. } => {
                log::debug!("TLS: {error}");
                Self::Misbehaved
            }
            _ => {
                log::warn!("TLS: {error}");
                Self::Config
            }
        }
    }

    fn of_message(why: rustls::InvalidMessage) -> Self {
        use rustls::InvalidMessage as M;
        match why {
            M::InvalidContentType | M::UnknownProtocolVersion | M::InvalidEmptyPayload => {
                Self::NotTls
            }
            M::MessageTooLarge => Self::Oversized,
            _ => {
                log::debug!("TLS: {why:?}");
                Self::Misbehaved
            }
        }
    }
}

impl Refused {
    fn of(why: &CertificateError) -> Self {
        use CertificateError as C;
        match why {
            C::NotValidForName | C::NotValidForNameContext { .. } => Self::WrongName,
            C::Expired | C::ExpiredContext { .. } => Self::Expired,
            C::NotValidYet | C::NotValidYetContext { .. } => Self::NotYetValid,
            C::UnknownIssuer => Self::UnknownIssuer,
            C::Revoked => Self::Revoked,
            C::BadSignature => Self::BadSignature,
            C::InvalidPurpose | C::InvalidPurposeContext { .. } => Self::WrongPurpose,
            C::BadEncoding => Self::Malformed,
            _ => {
                log::warn!("TLS: certificate refused: {why:?}");
                Self::Other
            }
        }
    }
}

impl Common {
    fn of(what: &PeerIncompatible) -> Self {
        use PeerIncompatible as P;
        match what {
            P::NoCipherSuitesInCommon => Self::Cipher,
            P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired => Self::Group,
            P::NoSignatureSchemesInCommon
            | P::NoCertificateRequestSignatureSchemesInCommon
            | P::SignatureAlgorithmsExtensionRequired => Self::Signature,
            P::ServerDoesNotSupportTls12Or13
            | P::ServerTlsVersionIsDisabledByOurConfig
            | P::SupportedVersionsExtensionRequired
            | P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled => Self::Version,
            _ => Self::Feature,
        }
    }
}
