//! The flags of TLS.

use std::path::PathBuf;

use gearshift_core::{TlsConfig, TlsError};

use super::{CANNOT_START, Settings, USAGE};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TlsFlags {
    /// File with a chain of certificates in PEM, to speak TLS; repeated, with a --tls-key for each, for several names.
    /// SIGHUP reads the files again
    #[arg(long, value_name = "PEM", env = "GEARSHIFT_TLS_CERT", value_delimiter = ',')]
    tls_cert: Vec<PathBuf>,

    /// File with the private key of a --tls-cert, in the same order
    #[arg(long, value_name = "PEM", env = "GEARSHIFT_TLS_KEY", value_delimiter = ',')]
    tls_key: Vec<PathBuf>,

    /// File with the authorities in PEM whose certificates clients show
    #[arg(long, value_name = "PEM", env = "GEARSHIFT_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,

    /// Policy for clients without a certificate: required or optional [default: required]
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_TLS_CLIENT_AUTH", value_parser = is_required)]
    tls_client_auth: Option<bool>,
}

/// Reads whether a client needs a certificate.
fn is_required(text: &str) -> Result<bool, String> {
    match text {
        "required" => Ok(true),
        "optional" => Ok(false),
        _ => Err("not required or optional".to_owned()),
    }
}

/// The reason why the flags of TLS cannot be used, from [`Settings::tls`].
///
/// ```
/// use gearshift::cli::{Settings, TlsFlagsError};
///
/// fn explain(settings: &Settings) -> String {
///     match settings.tls() {
///         Ok(_) => "fine".into(),
///         Err(TlsFlagsError::Usage(why)) => format!("the flags do not belong together: {why}"),
///         Err(error) => error.to_string(),
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsFlagsError {
    /// A flag is missing beside another one.
    Usage(&'static str),
    /// A file cannot be used.
    File(TlsError),
}

impl TlsFlagsError {
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            TlsFlagsError::Usage(_) => USAGE,
            TlsFlagsError::File(_) => CANNOT_START,
        }
    }
}

impl std::fmt::Display for TlsFlagsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TlsFlagsError::Usage(why) => f.write_str(why),
            TlsFlagsError::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TlsFlagsError {}

impl From<TlsError> for TlsFlagsError {
    fn from(error: TlsError) -> TlsFlagsError {
        TlsFlagsError::File(error)
    }
}

impl Settings {
    /// The settings of TLS, for `Config::tls`: reads the files of `--tls-cert` and its relatives. `None` without these
    /// flags. [`serve`](super::serve) does this, and reads the files again at SIGHUP.
    ///
    /// # Errors
    /// [`TlsFlagsError`] if a flag is missing beside another one, or if a file cannot be used.
    pub fn tls(&self) -> Result<Option<TlsConfig>, TlsFlagsError> {
        let flags = &self.tls;
        if flags.tls_cert.len() != flags.tls_key.len() {
            return Err(TlsFlagsError::Usage("each --tls-cert needs a --tls-key, in the same order"));
        }
        if flags.tls_client_auth.is_some() && flags.tls_client_ca.is_none() {
            return Err(TlsFlagsError::Usage("--tls-client-auth needs --tls-client-ca"));
        }
        let mut pairs = flags.tls_cert.iter().zip(&flags.tls_key);
        let Some((certificate, key)) = pairs.next() else {
            return match flags.tls_client_ca {
                Some(_) => Err(TlsFlagsError::Usage("--tls-client-ca needs --tls-cert and --tls-key")),
                None => Ok(None),
            };
        };
        let mut tls = TlsConfig::from_pem_files(certificate, key)?;
        for (certificate, key) in pairs {
            tls = tls.with_certificate_files(certificate, key)?;
        }
        if let Some(authorities) = &flags.tls_client_ca {
            tls = tls.with_client_auth_file(authorities, flags.tls_client_auth.unwrap_or(true))?;
        }
        Ok(Some(tls))
    }
}

/// Returns what SIGHUP does.
pub(crate) fn on_hangup(tls: Option<&TlsConfig>) -> Option<Box<dyn Fn() + Send>> {
    let tls = tls?.clone();
    Some(Box::new(move || match tls.reload() {
        Ok(()) => log::info!("the certificates were read again"),
        Err(error) => log::error!("the certificates stay as they are: {error}"),
    }))
}
