//! The errors of the settings of TLS.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

/// The reason why settings of TLS cannot be used. Each text names the file.
///
/// ```
/// use gearshift_core::{TlsConfig, TlsError};
///
/// let error = TlsConfig::from_pem_files("/nowhere/cert.pem", "/nowhere/key.pem").unwrap_err();
/// assert!(matches!(error, TlsError::Read { .. }));
/// assert!(error.to_string().starts_with("/nowhere/cert.pem cannot be read: "));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// A file is not in the format PEM.
    #[error("{from} is not valid: {error}")]
    Pem {
        /// The name of the file.
        from: String,
        /// The reason.
        error: pem::Error,
    },
    /// There is no certificate.
    #[error("{from} holds no certificate in the format PEM")]
    NoCertificate {
        /// The name of the file.
        from: String,
    },
    /// There is no private key.
    #[error("{from} holds no private key in the format PEM")]
    NoPrivateKey {
        /// The name of the file.
        from: String,
    },
    /// A certificate or a key is not valid, or of a kind that is not supported.
    #[error("{from} is not valid: {error}")]
    Invalid {
        /// The name of the file.
        from: String,
        /// The reason.
        error: rustls::Error,
    },
    /// A private key does not belong to its certificate.
    #[error("the key in {key} does not belong to the certificate in {certificate}")]
    Mismatch {
        /// The name of the file with the certificate.
        certificate: String,
        /// The name of the file with the key.
        key: String,
    },
    /// rustls refuses the settings.
    #[error("the settings of TLS are not valid: {0}")]
    Settings(rustls::Error),
    /// The settings are those of rustls, and cannot be changed.
    #[error("settings that come from rustls cannot be changed")]
    Fixed,
}
