//! Servers that speak TLS by rustls in user space: one certificate, one cipher, one provider.

pub mod kio;
pub mod tokio;

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ServerSessionMemoryCache;
use rustls::{ServerConfig, version};

use crate::Result;
use crate::load::provider;

/// Sessions that a server remembers: as many as the load has clients, and what they leave unused.
const SESSIONS: usize = 4096;

/// TLS 1.3 with AES-128-GCM and X25519, and a certificate by ECDSA P-256; the rest as rustls has it.
fn config() -> Result<Arc<ServerConfig>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateParams::new(["localhost".to_string()])?.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(Arc::new(config))
}
