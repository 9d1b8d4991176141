//! TLS in the load: a client of rustls a connection, which lives on bytes alone.
//!
//! It offers what the servers are to agree on, verifies no certificate (the load is not to be what is
//! measured), and decrypts every reply.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, version,
};

use super::{Layer, Plan, Tls};
use crate::Result;
use crate::workload::Workload;

/// Tickets that a client keeps: a server gives two with a handshake, and one is used up by the next.
const TICKETS: usize = 4;

/// One cipher suite and one key exchange, so that nothing is left to be chosen.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    }
}

/// One connection at a time, its successors with the tickets it was given.
pub struct Client {
    config: Arc<ClientConfig>,
    conn: ClientConnection,
    out: Vec<u8>,
    plan: Tls,
    /// Every request has a connection of its own.
    anew: bool,
    /// How the handshake went has been looked at.
    shaken: bool,
    /// Connections before.
    before: u64,
}

impl Client {
    /// A client that does as `plan` says.
    pub fn new(plan: &Plan) -> Result<Self> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting))
            .with_no_client_auth();
        config.resumption = match plan.tls.resume {
            true => Resumption::store(Arc::new(ClientSessionMemoryCache::new(TICKETS))),
            false => Resumption::disabled(),
        };
        let config = Arc::new(config);
        Ok(Self {
            conn: connection(&config)?,
            config,
            out: Vec::new(),
            plan: plan.tls,
            anew: plan.workload == Workload::Close,
            shaken: false,
            before: 0,
        })
    }

    /// What rustls has to send, in `out` alone.
    fn collect(&mut self) -> Result<()> {
        self.out.clear();
        while self.conn.wants_write() {
            self.conn.write_tls(&mut self.out)?;
        }
        Ok(())
    }

    /// The handshake is done.
    fn shook(&mut self) -> Result<()> {
        self.shaken = true;
        let resumed = self.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed != (self.plan.resume && self.before > 0) {
            let kind = if resumed { "resumed" } else { "full" };
            return Err(format!("a handshake was {kind}, and should not have been").into());
        }
        if self.plan.only_shake {
            self.conn.send_close_notify();
        }
        Ok(())
    }
}

fn connection(config: &Arc<ClientConfig>) -> Result<ClientConnection> {
    let mut conn = ClientConnection::new(config.clone(), ServerName::try_from("localhost")?)?;
    conn.set_buffer_limit(None); // a request is never refused in part
    Ok(conn)
}

impl Layer for Client {
    fn open(&mut self, socket: &TcpStream) -> Result<()> {
        while self.conn.is_handshaking() {
            self.conn.complete_io(&mut &*socket)?;
        }
        self.shook()
    }

    fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        if self.anew {
            if self.shaken {
                self.conn = connection(&self.config)?;
                self.shaken = false;
                self.before += 1;
            }
            if self.plan.only_shake {
                self.collect()?;
                return Ok(&self.out);
            }
        }
        // Before the handshake is done this waits for it.
        self.conn.writer().write_all(request)?;
        self.collect()?;
        Ok(&self.out)
    }

    fn take(&mut self, mut received: &[u8]) -> Result<(usize, &[u8])> {
        let mut plain = 0;
        while !received.is_empty() {
            self.conn.read_tls(&mut received)?;
            let state = self.conn.process_new_packets()?;
            let mut left = state.plaintext_bytes_to_read();
            plain += left;
            while left > 0 {
                let mut bytes = [0; 1024];
                left -= self.conn.reader().read(&mut bytes)?;
            }
        }
        if !self.shaken && !self.conn.is_handshaking() {
            self.shook()?;
        }
        if self.conn.wants_write() {
            self.collect()?;
            return Ok((plain, &self.out));
        }
        Ok((plain, &[]))
    }
}

/// Trusts every certificate, unseen.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
