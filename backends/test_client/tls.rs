//! The TLS of the client: it trusts the certificates of its server alone.

use std::sync::Arc;

use gearshift_core::{Config, rustls};
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::typestate::AgentScope;

/// Lets the client trust the certificates of a server with these settings.
pub(crate) fn trust(client: ConfigBuilder<AgentScope>, config: &Config) -> ConfigBuilder<AgentScope> {
    let trusted = config.tls.as_ref().and_then(|tls| tls.certificates().ok()).unwrap_or_default();
    let trusted: Vec<_> = trusted.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&trusted))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    client.tls_config(tls)
}
