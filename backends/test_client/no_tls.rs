//! The TLS of the client without the feature `tls`: there is none.

use gearshift_core::Config;
use ureq::tls::TlsConfig;

/// Returns the settings of the client of a server with these settings.
pub(crate) fn trust(_: &Config) -> TlsConfig {
    TlsConfig::default()
}
