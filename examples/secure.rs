//! What `https` and `tls_files` share: a certificate of their own making, and what takes connections
//! with it.

use std::sync::Arc;

use kio::tls::rustls::ServerConfig;
use kio::tls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use kio::tls::{Mode, TlsAcceptor};
use kio::{Error, Result};

/// Where the certificate is written, for who is to trust it.
const CERTIFICATE: &str = "kio-example.pem";

/// An acceptor with a new certificate, for `localhost` and the addresses of this machine's loopback.
pub fn acceptor() -> Result<TlsAcceptor> {
    println!("{}", kio::tls::support());
    TlsAcceptor::new(config()?, Mode::Prefer)
}

/// A configuration with a new certificate, which is written to a file beside.
pub fn config() -> Result<Arc<ServerConfig>> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|_| Error::Other("rcgen made no certificate"))?;
    std::fs::write(CERTIFICATE, made.cert.pem())?;
    println!("the certificate is {CERTIFICATE}: `curl --cacert {CERTIFICATE}` trusts it");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(|_| Error::Other("the certificate and its key do not match"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
