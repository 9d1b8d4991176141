//! All contact with rustls' unbuffered and kernel interfaces, which 0.24 makes anew: nothing of them
//! is named outside this file.
//!
//! A [`Session`] is fed records and tells what came of them; what it wants to send is collected in
//! a `Vec` of the caller's. It does no input or output.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{
    CertificateError, ClientConfig, CommonState, ConnectionTrafficSecrets, HandshakeKind,
    PeerIncompatible, PeerMisbehaved, ProtocolVersion, ServerConfig, SupportedCipherSuite,
};

use super::error::{Common, Refused, TlsError};
use super::info::Info;
use crate::ring::ktls::{Cipher, Keys, Version};

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
            Self::Client(conn, _) => step(conn, records, out, client),
            Self::Server(conn) => step(conn, records, out, server),
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
            Self::Client(conn, _) => seal(conn, unread, Some(plain), room, client),
            Self::Server(conn) => seal(conn, unread, Some(plain), room, server),
        }
    }

    /// Writes the close_notify alert into `room`.
    pub(super) fn seal_close(
        &mut self,
        unread: &mut [u8],
        room: &mut [u8],
    ) -> Result<Sealed, TlsError> {
        match self {
            Self::Client(conn, _) => seal(conn, unread, None, room, client),
            Self::Server(conn) => seal(conn, unread, None, room, server),
        }
    }

    /// Whether rustls has something of its own to send, which goes before application data.
    pub(super) fn wants_to_send(&self) -> bool {
        self.common().wants_write()
    }

    /// Which keys the kernel would have to do; none where rustls has others than it knows.
    pub(super) fn kernel_cipher(&self) -> Option<(Version, Cipher)> {
        use rustls::CipherSuite as S;
        let version = match self.common().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            _ => return None,
        };
        let cipher = match self.common().negotiated_cipher_suite()?.suite() {
            S::TLS13_AES_128_GCM_SHA256
            | S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
            S::TLS13_AES_256_GCM_SHA384
            | S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
            S::TLS13_CHACHA20_POLY1305_SHA256
            | S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::Chacha20Poly1305,
            _ => return None,
        };
        Some((version, cipher))
    }

    /// Gives the keys out, to the kernel. There is no way back.
    pub(super) fn into_kernel(self) -> Result<KernelSession, TlsError> {
        let limit = self.common().negotiated_cipher_suite().map_or(0, records_max);
        let version = match self.common().protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => Version::Tls13,
        };
        let of = |error| TlsError::of(&error);
        let (keys, conn) = match self {
            Self::Client(conn, _) => {
                let (keys, conn) = conn.dangerous_into_kernel_connection().map_err(of)?;
                (keys, KernelConn::Client(conn))
            }
            Self::Server(conn) => {
                let (keys, conn) = conn.dangerous_into_kernel_connection().map_err(of)?;
                (keys, KernelConn::Server(conn))
            }
        };
        let (send, recv) =
            (Secrets(version, keys.tx.0, keys.tx.1), Secrets(version, keys.rx.0, keys.rx.1));
        Ok(KernelSession { conn, version, limit, first: Some((send, recv)) })
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

/// What is left of a session whose records the kernel does: its keys to come, and its tickets.
pub(super) struct KernelSession {
    conn: KernelConn,
    pub(super) version: Version,
    /// Records that one key may protect.
    pub(super) limit: u64,
    first: Option<(Secrets, Secrets)>,
}

enum KernelConn {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// Keys of one direction, and the number of its next record. rustls wipes them.
pub(super) struct Secrets(Version, u64, ConnectionTrafficSecrets);

impl KernelSession {
    /// The keys that follow the handshake, to send and to receive, once.
    pub(super) fn take_first(&mut self) -> Option<(Secrets, Secrets)> {
        self.first.take()
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self.conn, KernelConn::Client(_))
    }

    /// The next keys to send with, for after a key update that was sent.
    pub(super) fn next_send(&mut self) -> Result<Secrets, TlsError> {
        let next = match &mut self.conn {
            KernelConn::Client(conn) => conn.update_tx_secret(),
            KernelConn::Server(conn) => conn.update_tx_secret(),
        };
        self.secrets(next)
    }

    /// The next keys to receive with, after a key update that was received.
    pub(super) fn next_recv(&mut self) -> Result<Secrets, TlsError> {
        let next = match &mut self.conn {
            KernelConn::Client(conn) => conn.update_rx_secret(),
            KernelConn::Server(conn) => conn.update_rx_secret(),
        };
        self.secrets(next)
    }

    fn secrets(
        &self,
        next: Result<(u64, ConnectionTrafficSecrets), rustls::Error>,
    ) -> Result<Secrets, TlsError> {
        match next {
            Ok((sequence, secrets)) => Ok(Secrets(self.version, sequence, secrets)),
            Err(error) => Err(TlsError::of(&error)),
        }
    }

    /// Keeps a session ticket (the message's body) for the next connection.
    pub(super) fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), TlsError> {
        match &mut self.conn {
            KernelConn::Client(conn) => {
                conn.handle_new_session_ticket(ticket).map_err(|error| TlsError::of(&error))
            }
            KernelConn::Server(_) => Err(TlsError::Misbehaved),
        }
    }
}

impl Secrets {
    /// Lends them as the kernel's floor takes them.
    pub(super) fn lend<R>(&self, run: impl FnOnce(&Keys<'_>) -> R) -> Option<R> {
        let Self(version, sequence, secrets) = self;
        let (cipher, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (Cipher::Chacha20Poly1305, key, iv)
            }
            _ => return None,
        };
        let iv = iv.as_ref().try_into().ok()?;
        let key = key.as_ref();
        Some(run(&Keys { version: *version, cipher, key, iv, sequence: *sequence }))
    }
}

fn records_max(suite: SupportedCipherSuite) -> u64 {
    match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
    }
}

type Status<'c, 'i, Data> = UnbufferedStatus<'c, 'i, Data>;

fn client<'c, 'i>(
    conn: &'c mut UnbufferedClientConnection,
    records: &'i mut [u8],
) -> Status<'c, 'i, ClientConnectionData> {
    UnbufferedConnectionCommon::<ClientConnectionData>::process_tls_records(conn, records)
}

fn server<'c, 'i>(
    conn: &'c mut UnbufferedServerConnection,
    records: &'i mut [u8],
) -> Status<'c, 'i, ServerConnectionData> {
    UnbufferedConnectionCommon::<ServerConnectionData>::process_tls_records(conn, records)
}

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
fn seal<C, Data>(
    conn: &mut C,
    unread: &mut [u8],
    plain: Option<&[u8]>,
    room: &mut [u8],
    process: impl for<'c, 'i> Fn(&'c mut C, &'i mut [u8]) -> Status<'c, 'i, Data>,
) -> Result<Sealed, TlsError> {
    let sealed = loop {
        match process(conn, unread).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match plain {
                Some(plain) => break traffic.encrypt(plain, room),
                None => break traffic.queue_close_notify(room),
            },
            // What `step` has encoded goes before. It says so where data came behind what that answers.
            Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
            Ok(_) => return Err(TlsError::Config),
            Err(error) => return Err(TlsError::of(&error)),
        }
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
