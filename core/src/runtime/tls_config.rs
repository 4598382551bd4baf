//! The settings of TLS: certificates, keys, and the peers that must show a certificate.

mod certificates;
mod error;
mod server_name;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, UnbufferedServerConnection, WebPkiClientVerifier};

use crate::runtime::tls_config::certificates::{Certificates, certified_key, roots};
pub use crate::runtime::tls_config::error::TlsError;
use crate::runtime::tls_config::server_name::Recording;
pub(crate) use crate::runtime::tls_config::server_name::take_server_name;

/// The settings of TLS, for `Config::tls`.
///
/// The server speaks TLS 1.3 and TLS 1.2, with the default algorithms of rustls. It negotiates `http/1.1`,
/// and `h2` where the server speaks HTTP/2 (ALPN). It resumes sessions: by tickets, whose keys change every six hours,
/// and, for peers of TLS 1.2 without tickets, from a cache of [`TlsConfig::SESSIONS`] sessions. Early data is refused,
/// because it can be replayed.
///
/// A clone shares its certificates with the original, so a program keeps a clone to call [`TlsConfig::reload`] while
/// its server runs.
///
/// ```no_run
/// use gearshift_core::{Config, TlsConfig};
///
/// let tls = TlsConfig::from_pem_files("example.com.pem", "example.com.key")?
///     .with_certificate_files("example.org.pem", "example.org.key")?;
/// let mut config = Config::default();
/// config.tls = Some(tls.clone());
/// // Later, when the files have changed:
/// if let Err(error) = tls.reload() {
///     eprintln!("the certificates stay as they are: {error}");
/// }
/// # Ok::<(), gearshift_core::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    sources: Option<Arc<Sources>>,
    current: Arc<RwLock<Offers>>,
}

/// The settings of rustls for the two kinds of servers: they differ in the protocols that are negotiated.
#[derive(Clone)]
struct Offers {
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

impl Offers {
    /// `config` has the protocols of a server that speaks HTTP/2.
    fn new(config: ServerConfig) -> Offers {
        let mut http1 = config.clone();
        http1.alpn_protocols.retain(|protocol| *protocol != HTTP2);
        Offers { http1: Arc::new(http1), http2: Arc::new(config) }
    }
}

/// The places from which the settings are read. [`TlsConfig::from_rustls`] has none.
#[derive(Clone, Default)]
struct Sources {
    /// Chains of certificates, each with its key.
    certificates: Vec<(Pem, Pem)>,
    /// The authorities of the certificates of peers, and whether a peer must have one.
    client_auth: Option<(Pem, bool)>,
}

/// Text in the format PEM (RFC 7468).
#[derive(Clone)]
enum Pem {
    File(PathBuf),
    Text(Arc<[u8]>),
}

impl Pem {
    fn file(path: impl AsRef<Path>) -> Pem {
        Pem::File(path.as_ref().to_owned())
    }

    fn text(text: impl AsRef<[u8]>) -> Pem {
        Pem::Text(text.as_ref().into())
    }

    fn read(&self) -> Result<Arc<[u8]>, TlsError> {
        match self {
            Pem::Text(text) => Ok(text.clone()),
            Pem::File(path) => match std::fs::read(path) {
                Ok(text) => Ok(text.into()),
                Err(error) => Err(TlsError::Read { path: path.clone(), error }),
            },
        }
    }
}

/// The name of the file, or what stands in its place.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => path.display().fmt(f),
            Pem::Text(_) => f.write_str("the given text"),
        }
    }
}

impl TlsConfig {
    /// The number of sessions that are kept to be resumed by peers without tickets. The oldest makes room.
    pub const SESSIONS: usize = 256;

    /// Reads a chain of certificates, the server's own first, and its private key from files in the format PEM. The key
    /// is one of PKCS #8, PKCS #1 or SEC 1, without a password.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read or is invalid, or if the key does not belong to the certificate.
    pub fn from_pem_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<TlsConfig, TlsError> {
        Sources::default().and(Pem::file(certificates), Pem::file(key)).build()
    }

    /// Takes a chain of certificates and its private key as text in the format PEM, like
    /// [`TlsConfig::from_pem_files`].
    ///
    /// # Errors
    /// [`TlsError`] if a text is invalid, or if the key does not belong to the certificate.
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<TlsConfig, TlsError> {
        Sources::default().and(Pem::text(certificates), Pem::text(key)).build()
    }

    /// Uses settings of rustls, for what this type does not offer. They are used as they are: without
    /// `alpn_protocols`, nothing is negotiated. Only `h2` is left out where the server does not speak HTTP/2.
    ///
    /// The types are those of [`rustls`](crate::rustls), the version on which this crate depends.
    ///
    /// # Errors
    /// [`TlsError::Settings`] if no connection can have these settings.
    pub fn from_rustls(config: Arc<ServerConfig>) -> Result<TlsConfig, TlsError> {
        UnbufferedServerConnection::new(config.clone()).map_err(TlsError::Settings)?;
        let mut config = Arc::unwrap_or_clone(config);
        config.cert_resolver = Arc::new(Recording(config.cert_resolver));
        Ok(TlsConfig { sources: None, current: Arc::new(RwLock::new(Offers::new(config))) })
    }

    /// Adds a certificate from files, like [`TlsConfig::with_certificate`].
    ///
    /// # Errors
    /// As [`TlsConfig::from_pem_files`]. [`TlsError::Fixed`] after [`TlsConfig::from_rustls`].
    pub fn with_certificate_files(
        self,
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<TlsConfig, TlsError> {
        self.sources()?.and(Pem::file(certificates), Pem::file(key)).build()
    }

    /// Adds a certificate. A peer gets the first certificate that has the name it asks for (SNI), and whose key it
    /// supports. If no certificate has the name, or if the peer asks for none, it gets the first of all whose key it
    /// supports.
    ///
    /// # Errors
    /// As [`TlsConfig::from_pem`]. [`TlsError::Fixed`] after [`TlsConfig::from_rustls`].
    pub fn with_certificate(
        self,
        certificates: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<TlsConfig, TlsError> {
        self.sources()?.and(Pem::text(certificates), Pem::text(key)).build()
    }

    /// Asks peers for a certificate of one of these authorities, like [`TlsConfig::with_client_auth`]. The authorities
    /// are in a file.
    ///
    /// # Errors
    /// [`TlsError`] if the file cannot be read or is invalid. [`TlsError::Fixed`] after [`TlsConfig::from_rustls`].
    pub fn with_client_auth_file(
        self,
        authorities: impl AsRef<Path>,
        required: bool,
    ) -> Result<TlsConfig, TlsError> {
        Sources { client_auth: Some((Pem::file(authorities), required)), ..self.sources()? }.build()
    }

    /// Asks peers for a certificate of one of these authorities, which are certificates in the format PEM. The
    /// handshake fails for a peer that has none if `required` is true, and for a peer that shows another certificate.
    /// [`TlsInfo::peer_certificates`](crate::TlsInfo::peer_certificates) has the certificates of the peer.
    ///
    /// # Errors
    /// [`TlsError`] if the text is invalid. [`TlsError::Fixed`] after [`TlsConfig::from_rustls`].
    pub fn with_client_auth(
        self,
        authorities: impl AsRef<[u8]>,
        required: bool,
    ) -> Result<TlsConfig, TlsError> {
        Sources { client_auth: Some((Pem::text(authorities), required)), ..self.sources()? }.build()
    }

    /// Reads the files again. Handshakes that begin later use what was read. Connections keep their sessions, but none
    /// of them is resumed: its peer may not be allowed any more. Nothing is read after [`TlsConfig::from_rustls`].
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read or is invalid. Everything then stays as it is.
    pub fn reload(&self) -> Result<(), TlsError> {
        if let Some(sources) = &self.sources {
            let config = sources.read()?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        }
        Ok(())
    }

    /// The chain of the first certificate, as it is now: what a client must trust. Empty after
    /// [`TlsConfig::from_rustls`].
    ///
    /// # Errors
    /// [`TlsError`] if the file cannot be read, or is invalid.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let first = self.sources.as_ref().and_then(|sources| sources.certificates.first());
        first.map_or(Ok(Vec::new()), |(certificates, _)| certificates::chain(certificates))
    }

    /// The settings for a handshake that begins now. A server that speaks HTTP/2 offers `h2`.
    pub(crate) fn current(&self, speaks_http2: bool) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if speaks_http2 { current.http2.clone() } else { current.http1.clone() }
    }

    fn sources(self) -> Result<Sources, TlsError> {
        self.sources.map(Arc::unwrap_or_clone).ok_or(TlsError::Fixed)
    }
}

impl Sources {
    fn and(mut self, certificates: Pem, key: Pem) -> Sources {
        self.certificates.push((certificates, key));
        self
    }

    fn build(self) -> Result<TlsConfig, TlsError> {
        let current = Arc::new(RwLock::new(self.read()?));
        Ok(TlsConfig { sources: Some(Arc::new(self)), current })
    }

    /// Reads all files and checks what they hold.
    fn read(&self) -> Result<Offers, TlsError> {
        let provider = Arc::new(default_provider());
        let keys = self.certificates.iter().map(|(chain, key)| certified_key(chain, key, &provider));
        let certificates = Certificates::new(keys.collect::<Result<_, _>>()?);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Settings)?;
        let builder = match &self.client_auth {
            None => builder.with_no_client_auth(),
            Some((authorities, required)) => {
                builder.with_client_cert_verifier(verifier(authorities, *required, provider)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Recording(Arc::new(certificates))));
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config.ticketer = Ticketer::new().map_err(TlsError::Settings)?;
        config.session_storage = ServerSessionMemoryCache::new(TlsConfig::SESSIONS);
        Ok(Offers::new(config))
    }
}

fn verifier(
    authorities: &Pem,
    required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| TlsError::Settings(rustls::Error::General(error.to_string())))
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources.as_deref();
        let names = sources.map(|sources| sources.certificates.iter().map(|(chain, _)| chain.to_string()));
        f.debug_struct("TlsConfig")
            .field("certificates", &names.map(Iterator::collect::<Vec<_>>))
            .field("client_auth", &sources.and_then(|sources| Some(sources.client_auth.as_ref()?.1)))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
