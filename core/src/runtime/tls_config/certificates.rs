//! The certificates of a server, and which of them a peer gets.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use webpki::EndEntityCert;

use crate::runtime::tls_config::{Pem, TlsError};

/// The certificates in their order.
#[derive(Debug)]
pub(super) struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    /// The certificates of each name in lower case. `*.` begins the name of all names with one more label.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    pub(super) fn new(all: Vec<Arc<CertifiedKey>>) -> Certificates {
        let mut named: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        for certified in &all {
            // A certificate that cannot be parsed was refused before.
            let parsed = certified.end_entity_cert().ok().and_then(|der| EndEntityCert::try_from(der).ok());
            for name in parsed.iter().flat_map(|certificate| certificate.valid_dns_names()) {
                named.entry(name.to_ascii_lowercase()).or_default().push(certified.clone());
            }
        }
        Certificates { all, named }
    }

    /// The certificates that a peer may get that asks for `name`.
    fn of(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            self.named.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.named.get(&format!("*.{parent}"))
            })
        });
        found.unwrap_or(&self.all)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.of(hello.server_name());
        let is_supported =
            |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        certificates.iter().find(is_supported).or(certificates.first()).cloned()
    }
}

/// Reads a chain of certificates.
pub(super) fn chain(from: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = from.read()?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(TlsError::NoCertificate { from: from.to_string() }),
        chain => chain.map_err(|error| TlsError::Pem { from: from.to_string(), error }),
    }
}

/// Reads a chain of certificates and its key.
pub(super) fn certified_key(
    certificates: &Pem,
    key: &Pem,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = chain(certificates)?;
    let der = PrivateKeyDer::from_pem_slice(&key.read()?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoPrivateKey { from: key.to_string() },
        error => TlsError::Pem { from: key.to_string(), error },
    })?;
    let invalid = |from: &Pem, error| TlsError::Invalid { from: from.to_string(), error };
    let signing_key = provider.key_provider.load_private_key(der).map_err(|error| invalid(key, error))?;
    let certified = CertifiedKey::new(chain, signing_key);
    match certified.keys_match() {
        // Some keys do not tell their public half.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { certificate: certificates.to_string(), key: key.to_string() })
        }
        Err(error) => Err(invalid(certificates, error)),
    }
}

/// Reads the certificates of authorities.
pub(super) fn roots(from: &Pem) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(from)? {
        roots.add(certificate).map_err(|error| TlsError::Invalid { from: from.to_string(), error })?;
    }
    Ok(Arc::new(roots))
}
