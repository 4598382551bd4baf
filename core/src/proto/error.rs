//! What a peer can do wrong, one variant each, with the status that tells it.

use std::fmt;

use http::StatusCode;

/// A violation of RFC 9112 or of a limit. The peer is told the status, and its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The method is not a token (RFC 9112, 3.1).
    Method,
    /// The request line is not `method SP target SP version` (RFC 9112, 3).
    RequestLine,
    /// The target is none of the four forms, or not the one for its method (RFC 9112, 3.2).
    Target,
    /// The version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9110, 15.6.6).
    Version,
    /// A line ends in anything but CR LF (RFC 9112, 2.2).
    LineEnd,
    /// A field line is not `name: value`, with a token as its name (RFC 9112, 5.1).
    FieldName,
    /// A field value holds a control character (RFC 9110, 5.5).
    FieldValue,
    /// A field line goes on in the next one (RFC 9112, 5.2).
    Folding,
    /// The method alone is longer than the limit of the request line (RFC 9112, 3).
    MethodTooLong,
    /// The request line is longer than its limit (RFC 9112, 3).
    RequestLineTooLong,
    /// A field line, or the head, is longer than its limit.
    FieldsTooLarge,
    /// There are more field lines than the limit.
    TooManyFields,
    /// An HTTP/1.1 request without `Host` (RFC 9112, 3.2).
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host` is no host with an optional port, or empty.
    HostInvalid,
    /// `Content-Length` is not a number (RFC 9112, 6.3), or of more than 63 bits.
    LengthInvalid,
    /// More than one `Content-Length`, even of one value.
    LengthRepeated,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112, 6.3).
    LengthAndEncoding,
    /// `Transfer-Encoding` does not end in `chunked`, or comes twice (RFC 9112, 6.1).
    EncodingInvalid,
    /// `Transfer-Encoding` in an HTTP/1.0 request (RFC 9112, 6.1).
    EncodingInOldVersion,
    /// A transfer coding other than `chunked` (RFC 9112, 6.1).
    EncodingUnknown,
    /// An expectation other than `100-continue` (RFC 9110, 10.1.1).
    Expectation,
    /// The body is larger than its limit.
    BodyTooLarge,
    /// A chunk size is not a hexadecimal number, or too large for one (RFC 9112, 7.1).
    ChunkSize,
    /// A chunk extension is malformed or too long (RFC 9112, 7.1.1).
    ChunkExtension,
    /// The data of a chunk is not followed by CR LF (RFC 9112, 7.1).
    ChunkEnd,
    /// A trailer field is one that must not be sent as such (RFC 9110, 6.5.1).
    Trailer,
    /// The head took too long.
    HeadTimeout,
    /// There is no room for the connection (RFC 9110, 15.6.4). Not the peer's fault.
    Overload,
}

impl Error {
    /// What `Retry-After` says with [`Error::Overload`], in seconds (RFC 9110, 10.2.3).
    pub const RETRY_AFTER: u32 = 1;

    /// The status that tells the peer.
    pub fn status(self) -> StatusCode {
        match self {
            Error::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            Error::FieldsTooLarge | Error::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Error::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Error::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Error::Expectation => StatusCode::EXPECTATION_FAILED,
            Error::EncodingUnknown | Error::MethodTooLong => StatusCode::NOT_IMPLEMENTED,
            Error::Overload => StatusCode::SERVICE_UNAVAILABLE,
            Error::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Error::Method => "the method is not a token",
            Error::RequestLine => "the request line is malformed",
            Error::Target => "the request target is not valid for its method",
            Error::Version => "the version is not supported",
            Error::LineEnd => "a line does not end in CR LF",
            Error::FieldName => "a field line has no valid name",
            Error::FieldValue => "a field value holds a control character",
            Error::Folding => "a field line is folded",
            Error::MethodTooLong => "the method is too long",
            Error::RequestLineTooLong => "the request line is too long",
            Error::FieldsTooLarge => "the header fields are too large",
            Error::TooManyFields => "there are too many header fields",
            Error::HostMissing => "there is no Host",
            Error::HostRepeated => "there is more than one Host",
            Error::HostInvalid => "the Host is not valid",
            Error::LengthInvalid => "the Content-Length is not valid",
            Error::LengthRepeated => "there is more than one Content-Length",
            Error::LengthAndEncoding => "there are both Content-Length and Transfer-Encoding",
            Error::EncodingInvalid => "the Transfer-Encoding does not end in one chunked",
            Error::EncodingInOldVersion => "HTTP/1.0 has no Transfer-Encoding",
            Error::EncodingUnknown => "the Transfer-Encoding is not supported",
            Error::Expectation => "the expectation cannot be met",
            Error::BodyTooLarge => "the body is too large",
            Error::ChunkSize => "a chunk size is not valid",
            Error::ChunkExtension => "a chunk extension is not valid",
            Error::ChunkEnd => "the data of a chunk does not end where it should",
            Error::Trailer => "a trailer field is not allowed as such",
            Error::HeadTimeout => "the request took too long",
            Error::Overload => "there are too many connections",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}
