//! The transport of a connection without the feature `tls`; see `tls` for the counterparts.

use std::sync::Arc;

use crate::conn::context;
use crate::conn::transport::Transport;
use crate::runtime::config::Config;

/// The place of the TLS session of a connection. There is none.
#[derive(Default)]
pub(crate) struct TlsSlot {}

/// The transport of a connection.
pub(crate) type MaybeTls<T> = T;

/// Returns the transport of a connection.
#[inline]
pub(crate) fn wrap<T: Transport>(transport: T, _: &Arc<context::Context>, _: &Config) -> MaybeTls<T> {
    transport
}
