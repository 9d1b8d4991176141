//! What tests of TLS share: certificates of every kind, configurations, plain rustls clients over std
//! sockets, and pools to run on.

mod stage;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
use rustls::crypto::ring::{self, cipher_suite};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ExtractedSecrets,
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedCipherSuite, SupportedProtocolVersion,
};

use crate::client;
pub use stage::{
    Stage, assert_by_kernel, echo, is_by_kernel, kernel_now, kernel_rekeys, kernel_sessions, modes,
    path_of, read_out,
};

/// The name that certificates are for.
pub const NAME: &str = "kio.example";

/// A plain TLS client.
pub type Client = StreamOwned<ClientConnection, TcpStream>;

/// The cipher suites there are, of both versions.
pub const SUITES: [SupportedCipherSuite; 6] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Versions of TLS, newest first.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Who issues certificates, and whom the other side trusts.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// A certificate with its key.
pub struct Identity {
    /// The certificate, then what it takes to get to the root (nothing).
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// The key, as PKCS#8.
    pub fn key_der(&self) -> &[u8] {
        self.key.secret_der()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        // Each has a name of its own, so that none is taken for another with a wrong signature.
        let name = format!("authority {:?}", &key.public_key_raw()[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        let root = params.self_signed(&key).expect("a certificate").der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// A certificate for that name, for servers and clients, as `change` wants it.
    pub fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_string()]).expect("a name");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity { chain: vec![cert.der().clone()], key }
    }

    /// A certificate for that name.
    pub fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| {})
    }

    /// Its own certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The store that trusts it alone.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("a root");
        Arc::new(roots)
    }
}

/// Servers and clients that agree on nothing but what is asked for.
#[derive(Clone)]
pub struct Choice {
    /// Versions of TLS.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Cipher suites.
    pub suites: Vec<SupportedCipherSuite>,
}

impl Choice {
    /// Whatever there is.
    pub fn any() -> Self {
        Self { versions: VERSIONS.to_vec(), suites: SUITES.to_vec() }
    }

    /// One version.
    pub fn version(version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], suites: SUITES.to_vec() }
    }

    /// One cipher suite, and its version.
    pub fn suite(suite: SupportedCipherSuite) -> Self {
        Self { versions: vec![suite.version()], suites: vec![suite] }
    }

    fn provider(&self) -> Arc<rustls::crypto::CryptoProvider> {
        let all = ring::default_provider();
        Arc::new(rustls::crypto::CryptoProvider { cipher_suites: self.suites.clone(), ..all })
    }

    /// A server's configuration. It keeps sessions, and issues tickets in TLS 1.3 statefully.
    pub fn server(&self, identity: &Identity) -> ServerConfig {
        ServerConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&self.versions)
            .expect("versions with suites")
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .expect("a certificate and its key")
    }

    /// As `server`, for clients with a certificate of `authority` only.
    pub fn server_for_known(&self, identity: &Identity, authority: &Authority) -> ServerConfig {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(authority.roots(), self.provider());
        ServerConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&self.versions)
            .expect("versions with suites")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .expect("a certificate and its key")
    }

    /// A client's configuration that trusts `authority`.
    pub fn client(&self, authority: &Authority) -> ClientConfig {
        self.client_as(authority, None)
    }

    /// As `client`, with a certificate of its own.
    pub fn client_as(&self, authority: &Authority, identity: Option<&Identity>) -> ClientConfig {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(authority.roots(), self.provider());
        let builder = ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&self.versions)
            .expect("versions with suites")
            .with_webpki_verifier(verifier.build().expect("a verifier"));
        match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .expect("a certificate and its key"),
        }
    }
}

/// A plain client of `addr` that asks for [`NAME`]. The handshake begins with the first read or write.
pub fn tls_client(addr: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    tls_over(client(addr), config)
}

/// A plain client over that connection.
pub fn tls_over(tcp: TcpStream, config: &Arc<ClientConfig>) -> Client {
    let name = ServerName::try_from(NAME).expect("a name");
    StreamOwned::new(ClientConnection::new(config.clone(), name).expect("a configuration"), tcp)
}

/// The end of a TLS connection whose records the test makes by hand, after an honest handshake.
pub struct Forger {
    /// The connection.
    pub tcp: TcpStream,
    encrypter: Box<dyn MessageEncrypter>,
    version: ProtocolVersion,
    sequence: u64,
}

impl Forger {
    /// A client that shakes hands with `addr`. The configuration must give secrets out.
    pub fn client(addr: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut client = tls_client(addr, config);
        while client.conn.is_handshaking() || client.conn.wants_write() {
            client.conn.complete_io(&mut client.sock).expect("an honest handshake");
        }
        let suite = client.conn.negotiated_cipher_suite().expect("a suite");
        let secrets = client.conn.dangerous_extract_secrets().expect("secrets");
        Self::new(client.sock, suite, secrets)
    }

    /// A server that shakes hands with the client of `tcp`. The configuration must give secrets out.
    pub fn server(mut tcp: TcpStream, config: Arc<ServerConfig>) -> Self {
        let mut server = ServerConnection::new(config).expect("a configuration");
        while server.is_handshaking() || server.wants_write() {
            server.complete_io(&mut tcp).expect("an honest handshake");
        }
        let suite = server.negotiated_cipher_suite().expect("a suite");
        let secrets = server.dangerous_extract_secrets().expect("secrets");
        Self::new(tcp, suite, secrets)
    }

    fn new(tcp: TcpStream, suite: SupportedCipherSuite, secrets: ExtractedSecrets) -> Self {
        let (sequence, secrets) = secrets.tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            panic!("a cipher that the tests do not know");
        };
        let version = suite.version().version;
        let encrypter = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let (fixed, explicit) = iv.as_ref().split_at(4);
                suite.aead_alg.encrypter(key, fixed, explicit)
            }
        };
        Self { tcp, encrypter, version, sequence }
    }

    /// Seals a record of that content type.
    pub fn seal(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let plain = OutboundPlainMessage {
            typ: ContentType::from(kind),
            version: ProtocolVersion::TLSv1_2,
            payload: payload.into(),
        };
        let sealed = self.encrypter.encrypt(plain, self.sequence).expect("it seals");
        self.sequence += 1;
        sealed.encode()
    }

    /// Seals records of that content type and sends them.
    pub fn send(&mut self, kind: u8, payloads: &[&[u8]]) -> std::io::Result<()> {
        let records: Vec<u8> =
            payloads.iter().flat_map(|payload| self.seal(kind, payload)).collect();
        self.tcp.write_all(&records)
    }

    /// The version of TLS.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }
}
