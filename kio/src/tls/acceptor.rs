//! What makes TLS connections of TCP connections: the server's side and the client's.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use std::sync::{PoisonError, RwLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::error::TlsError;
use super::handshake::{Done, Terms, shake};
use super::info::{DataPath, Reason};
use super::kernel::Kernel;
use super::path::Path;
use super::session::Session;
use super::stream::TlsStream;
use super::support::support;
use super::user::User;
use crate::error::{Error, Result};
use crate::net::TcpStream;
use crate::net::records::Records;
use crate::ring::ktls::Refused;

/// Whether the kernel is to do the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// The kernel must; where it cannot, making the acceptor or connector fails, and so does a
    /// handshake that agrees on a cipher it does not know.
    Require,
    /// The kernel where it can, else rustls. [`TlsStream::data_path`] tells which it became.
    #[default]
    Prefer,
    /// rustls does.
    Off,
}

const TERMS: Terms = Terms { deadline: Duration::from_secs(10), keep_certificates: false };

/// The server's side: makes TLS connections of accepted ones.
///
/// A clone shares the configuration, and so do workers: make one before the pool starts and hand it
/// to every worker's state by `Args`. With a configuration of its own on each worker, a client that
/// comes back to another could not resume its session.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    mode: Mode,
    terms: Terms,
}

impl TlsAcceptor {
    /// Takes a finished configuration: certificates (`ResolvesServerCert` for several names), client
    /// certificates, ALPN, session store, ticketer. Early data is not offered, whatever it says.
    ///
    /// Error: [`Mode::Require`] and this kernel has no TLS.
    pub fn new(config: Arc<ServerConfig>, mode: Mode) -> Result<Self> {
        mode.check()?;
        let config = Arc::new(RwLock::new(server_config(config, mode)));
        Ok(Self { config, mode, terms: TERMS })
    }

    /// How long a handshake may take; 10 s unless set.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.terms.deadline = deadline;
        self
    }

    /// Keeps the client's certificates for [`Info::peer_certificates`](super::Info), a copy each
    /// connection.
    pub fn keep_peer_certificates(mut self) -> Self {
        self.terms.keep_certificates = true;
        self
    }

    /// Uses another configuration for the handshakes that begin from now on, of this acceptor and
    /// all its clones, on every worker.
    pub fn reload(&self, config: Arc<ServerConfig>) {
        let config = server_config(config, self.mode);
        let mut now = self.config.write().unwrap_or_else(PoisonError::into_inner);
        let before = core::mem::replace(&mut *now, config);
        drop(now);
        drop(before); // it may run code of the user's, who may use the acceptor
    }

    /// Shakes hands with a client.
    ///
    /// Cancel safety: given up, the connection is closed. Errors: [`TlsError`] by cause, the
    /// system's, `Stopped`; the connection is closed, after an alert where TLS has one.
    pub async fn accept(&self, tcp: TcpStream) -> Result<TlsStream> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let session = Session::server(config)?;
        finish(tcp, session, self.mode, self.terms).await
    }
}

/// The client's side: makes TLS connections of connected ones.
#[derive(Clone)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
    mode: Mode,
    terms: Terms,
}

impl TlsConnector {
    /// Takes a finished configuration: roots, client certificates, ALPN, session store. Early data is
    /// not sent.
    ///
    /// Error: [`Mode::Require`] and this kernel has no TLS.
    pub fn new(config: Arc<ClientConfig>, mode: Mode) -> Result<Self> {
        mode.check()?;
        let config = client_config(config, mode);
        Ok(Self { config, mode, terms: TERMS })
    }

    /// How long a handshake may take; 10 s unless set.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.terms.deadline = deadline;
        self
    }

    /// Keeps the server's certificates for [`Info::peer_certificates`](super::Info), a copy each
    /// connection.
    pub fn keep_peer_certificates(mut self) -> Self {
        self.terms.keep_certificates = true;
        self
    }

    /// Shakes hands with a server, whose certificate must be for `name`: text, or a `ServerName`.
    ///
    /// Cancel safety: given up, the connection is closed. Errors: [`TlsError`] by cause, the
    /// system's, `Stopped`; the connection is closed, after an alert where TLS has one.
    pub async fn connect<'n>(
        &self,
        name: impl TryInto<ServerName<'n>>,
        tcp: TcpStream,
    ) -> Result<TlsStream> {
        let name = name.try_into().map_err(|_| TlsError::BadName)?.to_owned();
        let session = Session::client(self.config.clone(), name)?;
        finish(tcp, session, self.mode, self.terms).await
    }
}

impl Mode {
    fn check(self) -> Result<()> {
        match support().missing {
            Some(why) if self == Self::Require => Err(TlsError::NoKernelTls(why).into()),
            _ => Ok(()),
        }
    }
}

/// Without early data, and with keys to be had for the kernel.
fn server_config(mut config: Arc<ServerConfig>, mode: Mode) -> Arc<ServerConfig> {
    let secrets = mode != Mode::Off;
    if config.max_early_data_size > 0 || (secrets && !config.enable_secret_extraction) {
        let own = Arc::make_mut(&mut config);
        own.max_early_data_size = 0;
        own.enable_secret_extraction |= secrets;
    }
    config
}

fn client_config(mut config: Arc<ClientConfig>, mode: Mode) -> Arc<ClientConfig> {
    let secrets = mode != Mode::Off;
    if config.enable_early_data || (secrets && !config.enable_secret_extraction) {
        let own = Arc::make_mut(&mut config);
        own.enable_early_data = false;
        own.enable_secret_extraction |= secrets;
    }
    config
}

/// Puts the kernel's TLS under the connection, so that what it refuses is known while there is a way
/// back: none where rustls is to do the records.
fn prepare(tcp: &TcpStream, mode: Mode) -> Result<core::result::Result<Records, Reason>> {
    let records = tcp.records();
    let why = match (mode, support().missing) {
        (Mode::Off, _) => Reason::Off,
        (_, Some(why)) => why,
        _ if records.read_ahead() => Reason::BytesReceived,
        _ => match records.use_tls() {
            Ok(()) => return Ok(Ok(records)),
            // The peer has gone already.
            Err(Refused::NotConnected) => return Err(TlsError::HandshakeEnded.into()),
            Err(Refused::Stopped) => return Err(Error::Stopped),
            Err(refused) => Reason::of(refused),
        },
    };
    match mode {
        Mode::Require => Err(TlsError::NoKernelTls(why).into()),
        Mode::Prefer | Mode::Off => Ok(Err(why)),
    }
}

async fn finish(tcp: TcpStream, session: Session, mode: Mode, terms: Terms) -> Result<TlsStream> {
    let prepared = prepare(&tcp, mode)?;
    let done = shake(tcp.socket(), session, terms, prepared.ok()).await?;
    let Done { session, info, unread, closed } = done;
    let why = match (prepared, session.kernel_cipher()) {
        (Ok(records), Some((version, cipher))) if support().does(version, cipher) => {
            let kernel = hand_over(records, session)?;
            return Ok(TlsStream::new(tcp, Path::Kernel(kernel), info, DataPath::Kernel));
        }
        (Ok(_), _) => Reason::Cipher(info.suite),
        (Err(why), _) => why,
    };
    if mode == Mode::Require {
        return Err(TlsError::NoKernelTls(why).into());
    }
    let user = User::new(session, unread, closed);
    Ok(TlsStream::new(tcp, Path::User(user), info, DataPath::UserSpace(why)))
}

/// Gives the keys to the kernel. All that the handshake had to send is out, and nothing behind it was
/// received.
fn hand_over(records: Records, session: Session) -> Result<Kernel> {
    let mut session = session.into_kernel()?;
    let Some((send, recv)) = session.take_first() else { return Err(TlsError::Config.into()) };
    let set = send
        .lend(|keys| records.set_send_keys(keys))
        .and_then(|sent| Some(sent.and(recv.lend(|keys| records.set_recv_keys(keys))?)));
    match set {
        Some(Ok(())) => Ok(Kernel::new(records, session)),
        Some(Err(Refused::NotConnected)) => Err(TlsError::HandshakeEnded.into()),
        Some(Err(refused)) => Err(refused.into()),
        None => Err(TlsError::Config.into()),
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsAcceptor({:?}, {:?})", self.mode, self.terms)
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsConnector({:?}, {:?})", self.mode, self.terms)
    }
}
