//! The errors of a request, each with the status and the text that the peer receives.

use http::StatusCode;

/// A violation of RFC 9112 or of a limit in a request.
///
/// The connection answers with [`Error::status`] and closes (see
/// [`Connection::refuse`](crate::h1::Connection::refuse)). The `Display` text is the body of the response.
///
/// ```
/// use gearshift_core::StatusCode;
/// use gearshift_core::h1::Error;
///
/// assert_eq!(Error::Method.status(), StatusCode::BAD_REQUEST);
/// assert_eq!(Error::Method.to_string(), "the method is not a token");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The method is not a token (RFC 9112, 3.1).
    #[error("the method is not a token")]
    Method,
    /// The request line is not `method SP target SP version` (RFC 9112, 3).
    #[error("the request line is malformed")]
    RequestLine,
    /// The target has none of the four forms, or a form that its method does not allow (RFC 9112, 3.2).
    #[error("the request target is not valid for its method")]
    Target,
    /// The major version is not 1 (RFC 9110, 15.6.6).
    #[error("the version is not supported")]
    Version,
    /// A line does not end in CR LF (RFC 9112, 2.2).
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// A field line is not `name: value` with a token as the name (RFC 9112, 5.1).
    #[error("a field line has no valid name")]
    FieldName,
    /// A field value contains a control character (RFC 9110, 5.5).
    #[error("a field value holds a control character")]
    FieldValue,
    /// A field line continues on the next line (RFC 9112, 5.2).
    #[error("a field line is folded")]
    Folding,
    /// The method alone is longer than [`Limits::request_line`](crate::Limits::request_line) (RFC 9112, 3).
    #[error("the method is too long")]
    MethodTooLong,
    /// The request line is longer than [`Limits::request_line`](crate::Limits::request_line) (RFC 9112, 3).
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// A field line is longer than [`Limits::field_line`](crate::Limits::field_line), or the head is longer than
    /// [`Limits::head`](crate::Limits::head) (RFC 6585, 5).
    #[error("the header fields are too large")]
    FieldsTooLarge,
    /// There are more field lines than [`Limits::fields`](crate::Limits::fields) (RFC 6585, 5).
    #[error("there are too many header fields")]
    TooManyFields,
    /// An HTTP/1.1 request has no `Host` (RFC 9112, 3.2).
    #[error("there is no Host")]
    HostMissing,
    /// There is more than one `Host` (RFC 9112, 3.2).
    #[error("there is more than one Host")]
    HostRepeated,
    /// The value of `Host` is empty or is not a host with an optional port (RFC 9110, 7.2).
    #[error("the Host is not valid")]
    HostInvalid,
    /// The value of `Content-Length` is not a decimal number of at most 63 bits (RFC 9112, 6.3).
    #[error("the Content-Length is not valid")]
    LengthInvalid,
    /// There is more than one `Content-Length`, with equal or different values (RFC 9112, 6.3).
    #[error("there is more than one Content-Length")]
    LengthRepeated,
    /// There are both `Content-Length` and `Transfer-Encoding` (RFC 9112, 6.3).
    #[error("there are both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// `Transfer-Encoding` does not end in `chunked`, or contains `chunked` more than once (RFC 9112, 6.1).
    #[error("the Transfer-Encoding does not end in one chunked")]
    EncodingInvalid,
    /// An HTTP/1.0 request has `Transfer-Encoding` (RFC 9112, 6.1).
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    EncodingInOldVersion,
    /// `Transfer-Encoding` contains a coding besides `chunked` (RFC 9112, 6.1).
    #[error("the Transfer-Encoding is not supported")]
    EncodingUnknown,
    /// `Expect` contains an expectation other than `100-continue` (RFC 9110, 10.1.1).
    #[error("the expectation cannot be met")]
    Expectation,
    /// The body is larger than [`Limits::body`](crate::Limits::body) (RFC 9110, 15.5.14).
    #[error("the body is too large")]
    BodyTooLarge,
    /// A chunk size is not a hexadecimal number of at most 63 bits (RFC 9112, 7.1).
    #[error("a chunk size is not valid")]
    ChunkSize,
    /// A chunk extension is malformed or too long (RFC 9112, 7.1.1).
    #[error("a chunk extension is not valid")]
    ChunkExtension,
    /// The data of a chunk is not followed by CR LF (RFC 9112, 7.1).
    #[error("the data of a chunk does not end where it should")]
    ChunkEnd,
    /// A trailer section contains a field that is not allowed there (RFC 9110, 6.5.1).
    #[error("a trailer field is not allowed as such")]
    Trailer,
    /// The head did not arrive within its time limit (RFC 9110, 15.5.9).
    #[error("the request took too long")]
    HeadTimeout,
    /// The request came without TLS to a server that speaks TLS.
    #[error("this port speaks TLS: the URL begins with https")]
    PlainOnTls,
    /// A CONNECT over HTTP/2, which has no tunnels here (RFC 9113, 8.5).
    #[error("a tunnel needs HTTP/1.1")]
    Tunnel,
    /// The server has too many connections (RFC 9110, 15.6.4). The only variant that is not the peer's fault.
    #[error("there are too many connections")]
    Overload,
}

impl Error {
    /// The value of `Retry-After` with [`Error::Overload`], in seconds (RFC 9110, 10.2.3).
    pub const RETRY_AFTER: u32 = 1;

    /// The status of the response to the peer.
    pub fn status(self) -> StatusCode {
        match self {
            Error::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            Error::FieldsTooLarge | Error::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Error::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Error::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Error::Expectation => StatusCode::EXPECTATION_FAILED,
            Error::EncodingUnknown | Error::MethodTooLong | Error::Tunnel => StatusCode::NOT_IMPLEMENTED,
            Error::Overload => StatusCode::SERVICE_UNAVAILABLE,
            Error::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_the_status_of_its_rfc() {
        for (error, status) in [
            (Error::Method, 400),
            (Error::RequestLineTooLong, 414),
            (Error::MethodTooLong, 501),
            (Error::Tunnel, 501),
            (Error::FieldsTooLarge, 431),
            (Error::TooManyFields, 431),
            (Error::BodyTooLarge, 413),
            (Error::HeadTimeout, 408),
            (Error::Expectation, 417),
            (Error::EncodingUnknown, 501),
            (Error::EncodingInvalid, 400),
            (Error::Overload, 503),
            (Error::Version, 505),
        ] {
            assert_eq!(error.status(), status, "{error}");
        }
    }
}
