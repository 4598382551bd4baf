//! What a request knows about the TLS session of its connection.

use std::fmt;

use rustls::pki_types::CertificateDer;

use crate::conn::context::RequestContext;
use crate::proto::request::Request;

/// The properties of a TLS session, from [`Request::tls`].
///
/// ```
/// use gearshift_core::{Request, StatusCode, TlsInfo};
///
/// // Answers peers that have shown a certificate.
/// async fn private(request: Request) -> Result<String, StatusCode> {
///     let tls: &TlsInfo = request.tls().ok_or(StatusCode::FORBIDDEN)?;
///     let certificate = tls.peer_certificates().first().ok_or(StatusCode::FORBIDDEN)?;
///     Ok(format!("{}, a certificate of {} bytes", tls.version(), certificate.len()))
/// }
/// # drop(private);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TlsInfo {
    pub(super) version: &'static str,
    pub(super) server_name: Option<Box<str>>,
    pub(super) alpn: Option<Box<[u8]>>,
    pub(super) peer_certificates: Box<[CertificateDer<'static>]>,
}

impl TlsInfo {
    /// The version of the protocol: `TLSv1.2` or `TLSv1.3`.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The name of the server that the peer has asked for (SNI, RFC 6066, 3), in lower case. `None` without one.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The application protocol that was negotiated (ALPN, RFC 7301), such as `http/1.1`. `None` if the peer has
    /// offered none.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The certificates of the peer in DER, its own first. They were verified, also in a session that was resumed.
    /// Empty if the peer has shown none.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.peer_certificates
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version)
            .field("server_name", &self.server_name)
            .field("alpn", &self.alpn.as_deref().map(String::from_utf8_lossy))
            .field("peer_certificates", &self.peer_certificates.len())
            .finish()
    }
}

impl Request {
    /// Returns the TLS session of the connection; `None` for a request that came without TLS, or that no server has
    /// received.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.context()?.tls.get()
    }
}

impl RequestContext {
    /// The TLS session of the connection, as [`Request::tls`].
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.context()?.tls.get()
    }
}
