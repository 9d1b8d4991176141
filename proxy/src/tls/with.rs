//! Acceptors and connectors of kio's TLS, with rustls' provider `ring`. The kernel does the records
//! where it can.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use embedded_io_async::Read;
use kio::net::TcpStream;
pub use kio::tls::TlsStream;
use kio::tls::rustls::client::WebPkiServerVerifier;
use kio::tls::rustls::crypto::{CryptoProvider, ring};
use kio::tls::rustls::pki_types::pem::{self, PemObject};
use kio::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use kio::tls::rustls::server::WebPkiClientVerifier;
use kio::tls::rustls::sign::CertifiedKey;
use kio::tls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use kio::tls::{Mode, TlsAcceptor, TlsConnector, support};

use super::Files;
use crate::config::{Cause, Config, Fault, Mistake, Terms};
use crate::header::{self, Ends, Found};

/// Bytes of the longest PROXY header that is read.
const HEADER_MAX: usize = 536;

/// What all workers share.
pub type Shared = Arc<Tls>;

/// What listeners and groups have of it, by their numbers in the configuration.
pub struct Tls {
    listeners: Vec<Option<Acceptor>>,
    groups: Vec<Option<Connector>>,
}

/// A listener's side.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

/// A group's side, with the name that its servers' certificates are for.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

type Result<T> = std::result::Result<T, Mistake>;

impl Tls {
    /// Makes all that a configuration asks for.
    pub fn load(config: &Config, files: &Files) -> Result<Shared> {
        let listeners = config.listeners.iter().map(|listen| {
            let terms = listen.tls.as_deref();
            terms.map(|terms| acceptor(terms, files)).transpose()
        });
        let groups = config.groups.iter().map(|group| {
            let terms = group.tls.as_deref();
            terms.map(|terms| connector(terms, files)).transpose()
        });
        let listeners = listeners.collect::<Result<_>>()?;
        let groups = groups.collect::<Result<_>>()?;
        Ok(Arc::new(Self { listeners, groups }))
    }

    pub fn acceptor(&self, listener: usize) -> Option<Acceptor> {
        self.listeners.get(listener)?.clone()
    }

    pub fn connector(&self, group: usize) -> Option<Connector> {
        self.groups.get(group)?.clone()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn acceptor(terms: &Terms, files: &Files) -> Result<Acceptor> {
    let none = || terms.mistake(Cause::Needs("cert=FILE key=FILE"), "tls");
    let (cert, key) = terms.own.as_ref().ok_or_else(none)?;
    let of_cert = |_| terms.mistake(Cause::File(Fault::BadCertificate), cert);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(of_cert)?;
    let builder = match &terms.ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(roots(terms, ca, files)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            let bad = |_| terms.mistake(Cause::File(Fault::BadCertificate), ca);
            builder.with_client_cert_verifier(verifier.map_err(bad)?)
        }
    };
    let (chain, der) = own(terms, cert, key, files)?;
    let mut config = builder.with_single_cert(chain, der).map_err(of_cert)?;
    config.alpn_protocols = terms.alpn.clone();
    let made = TlsAcceptor::new(Arc::new(config), Mode::Prefer);
    // Only where the kernel must can it be refused.
    made.map(Acceptor).map_err(|_| none())
}

fn connector(terms: &Terms, files: &Files) -> Result<Connector> {
    let missing = |what| terms.mistake(Cause::Missing(what), "tls");
    let name = terms.name.as_deref().ok_or_else(|| missing("a name"))?;
    let ca = terms.ca.as_ref().ok_or_else(|| missing("`ca=FILE`"))?;
    let bad_name = |_| terms.mistake(Cause::NotAName, name);
    let server = ServerName::try_from(name).map_err(bad_name)?.to_owned();
    let of_ca = || terms.mistake(Cause::File(Fault::BadCertificate), ca);
    let roots = Arc::new(roots(terms, ca, files)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| of_ca())?
        .with_webpki_verifier(verifier.build().map_err(|_| of_ca())?);
    let mut config = match &terms.own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let (chain, der) = own(terms, cert, key, files)?;
            let bad = |_| terms.mistake(Cause::File(Fault::BadCertificate), cert);
            builder.with_client_auth_cert(chain, der).map_err(bad)?
        }
    };
    config.alpn_protocols = terms.alpn.clone();
    let connector = TlsConnector::new(Arc::new(config), Mode::Prefer).map_err(|_| of_ca())?;
    Ok(Connector { connector, name: server })
}

/// A certificate with its chain, and the key that is its own.
fn own(
    terms: &Terms,
    cert: &str,
    key: &str,
    files: &Files,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(terms, cert, files)?;
    let bytes = files.get(key).map_err(|fault| terms.mistake(Cause::File(fault), key))?;
    let der = PrivateKeyDer::from_pem_slice(bytes)
        .map_err(|error| terms.mistake(Cause::File(of_pem(&error, Fault::NoKey)), key))?;
    // What does not fit is found here, where it is known whose fault it is.
    match CertifiedKey::from_der(chain.clone(), der.clone_key(), &ring::default_provider()) {
        Ok(_) => Ok((chain, der)),
        Err(error) => Err(match error {
            rustls::Error::InconsistentKeys(_) => terms.mistake(Cause::File(Fault::NotItsKey), key),
            rustls::Error::InvalidCertificate(_) => {
                terms.mistake(Cause::File(Fault::BadCertificate), cert)
            }
            _ => terms.mistake(Cause::File(Fault::BadKey), key),
        }),
    }
}

fn roots(terms: &Terms, ca: &str, files: &Files) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(terms, ca, files)? {
        let bad = |_| terms.mistake(Cause::File(Fault::BadCertificate), ca);
        roots.add(cert).map_err(bad)?;
    }
    Ok(roots)
}

/// The certificates in a file, at least one.
fn certificates(terms: &Terms, path: &str, files: &Files) -> Result<Vec<CertificateDer<'static>>> {
    let fault = |fault| terms.mistake(Cause::File(fault), path);
    let bytes = files.get(path).map_err(fault)?;
    let mut found = Vec::new();
    for cert in CertificateDer::pem_slice_iter(bytes) {
        found.push(cert.map_err(|error| fault(of_pem(&error, Fault::NoCertificate)))?);
    }
    if found.is_empty() { Err(fault(Fault::NoCertificate)) } else { Ok(found) }
}

fn of_pem(error: &pem::Error, none: Fault) -> Fault {
    match error {
        pem::Error::NoItemsFound => none,
        _ => Fault::NotPem,
    }
}

impl Acceptor {
    /// Reads a client's PROXY header and no byte behind it: that is the handshake's.
    pub async fn header(&self, client: &mut TcpStream) -> kio::Result<Option<Ends>> {
        let mut bytes = [0; HEADER_MAX];
        for len in 1..=HEADER_MAX {
            if client.read(&mut bytes[len - 1..len]).await? == 0 {
                break;
            }
            match header::read(&bytes[..len]) {
                Found::Part => {}
                Found::Wrong => break,
                Found::Header(_, ends) => return Ok(ends),
            }
        }
        Err(kio::Error::Other("no PROXY header, or a wrong one"))
    }

    /// Shakes hands with a client.
    pub async fn accept(&self, client: TcpStream, limit: Duration) -> kio::Result<TlsStream> {
        self.0.clone().deadline(limit).accept(client).await
    }
}

impl Connector {
    /// Shakes hands with a server.
    pub async fn connect(&self, server: TcpStream, limit: Duration) -> kio::Result<TlsStream> {
        let connector = self.connector.clone().deadline(limit);
        connector.connect(self.name.clone(), server).await
    }
}

/// Whether real descriptors beside the slots are of use: the kernel's TLS goes by them.
pub fn real_fds() -> bool {
    support().missing.is_none()
}

/// What TLS takes beside what is declared, and who does its records.
pub fn costs() -> impl fmt::Display {
    fmt::from_fn(|f| {
        write!(
            f,
            "TLS takes from the heap beside that: about 14 KiB a connection of either side, at most \
             128 KiB\nmore while it shakes hands, and about 40 KiB more while bytes flow, where the \
             kernel does not do its\nrecords.\n\n{}\n",
            support()
        )
    })
}
