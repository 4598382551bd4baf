//! The settings of TLS without the feature `tls`: there are none.

/// The settings of TLS. Without the feature `tls`, this type has no value.
#[derive(Clone, Copy, Debug)]
pub enum TlsConfig {}
