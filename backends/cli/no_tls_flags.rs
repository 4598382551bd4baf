//! The flags of TLS without the feature `tls`: there are none.

use std::convert::Infallible;

use gearshift_core::TlsConfig;

use super::{CANNOT_START, Settings};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TlsFlags {}

/// The reason why the flags of TLS cannot be used. There are none.
pub(crate) struct TlsFlagsError(Infallible);

impl TlsFlagsError {
    pub(crate) fn exit_status(&self) -> u8 {
        CANNOT_START
    }
}

impl std::fmt::Display for TlsFlagsError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {}
    }
}

impl Settings {
    pub(crate) fn tls(&self) -> Result<Option<TlsConfig>, TlsFlagsError> {
        Ok(None)
    }
}

/// Returns what SIGHUP does: it ends the program.
pub(crate) fn on_hangup(_: Option<&TlsConfig>) -> Option<Box<dyn Fn() + Send>> {
    None
}
