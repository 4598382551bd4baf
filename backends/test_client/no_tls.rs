//! The TLS of the client without the feature `tls`: there is none.

use gearshift_core::Config;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

/// Adds nothing.
pub(crate) fn trust(client: ConfigBuilder<AgentScope>, _: &Config) -> ConfigBuilder<AgentScope> {
    client
}
