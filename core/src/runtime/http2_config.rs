//! The settings of HTTP/2.

/// The settings of HTTP/2, as `Config::http2`. The table of [`Config`](crate::Config) has the others, which apply to
/// each version of HTTP.
///
/// A peer gets HTTP/2 if TLS has negotiated `h2` (ALPN), or if its first bytes, without TLS, are the preface of HTTP/2
/// (prior knowledge). The backends `sequential` and `threadpool`, on which a request holds a thread, speak HTTP/1.1
/// alone: they negotiate `http/1.1`, and refuse the preface with 505.
///
/// | Setting | Flag | Default | Consequence beyond it |
/// | --- | --- | --- | --- |
/// | `enabled` | `--http2` | true | |
/// | `max_streams` | `--http2-max-streams` | 100 requests at once on a connection | the peer waits; a request that is sent nevertheless is reset with `REFUSED_STREAM` |
/// | `max_resets` | `--http2-max-resets` | 200 requests that are given up or malformed, beyond the number of those that are answered | the connection ends with `ENHANCE_YOUR_CALM` |
/// | `stream_window` | `--http2-stream-window` | 256 KiB of one request body that no handler has read | the peer waits |
/// | `connection_window` | `--http2-connection-window` | 1 MiB of all request bodies of a connection | the peer waits |
/// | `send_buffer` | `--http2-send-buffer` | 64 KiB of each response that the peer has not taken | the response waits |
///
/// ```
/// use gearshift_core::Config;
///
/// let mut config = Config::default();
/// config.http2.max_streams = 32;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http2 {
    /// Whether the server speaks HTTP/2 on the backends that have it. Without it, TLS negotiates `http/1.1` alone, and
    /// the preface of HTTP/2 is refused with 505.
    pub enabled: bool,
    /// The largest number of requests that one connection may have at once (RFC 9113, 5.1.2), at least 1.
    pub max_streams: u32,
    /// The largest number of requests that a peer gives up (`RST_STREAM`), or that break a rule of HTTP/2, beyond the
    /// number of requests that were answered; at least 1. A peer that begins requests and gives them up at once makes
    /// the server work for responses that nothing receives ("rapid reset", CVE-2023-44487).
    pub max_resets: u32,
    /// The number of bytes of one request body that a peer may send before the handler reads them (RFC 9113, 5.2), from
    /// [`Http2::FRAME`] to [`Http2::MAX_WINDOW`].
    pub stream_window: u32,
    /// The number of bytes of all request bodies together that a peer may send before their handlers read them: the
    /// memory that one connection can hold. From 65,535 to [`Http2::MAX_WINDOW`].
    pub connection_window: u32,
    /// The number of bytes of one response that wait for the peer before more of it is produced, from
    /// [`Http2::FRAME`] to [`Http2::MAX_WINDOW`].
    pub send_buffer: usize,
}

impl Http2 {
    /// The largest frame that each peer accepts (RFC 9113, 4.2), and the smallest window and buffer of a stream.
    /// Smaller ones would divide all bodies into small frames.
    pub const FRAME: u32 = 16_384;
    /// The largest window: 2 GiB less 1 byte (RFC 9113, 6.9.1).
    pub const MAX_WINDOW: u32 = (1 << 31) - 1;
    /// The smallest window of a connection, with which each one begins (RFC 9113, 6.9.2).
    pub const MIN_CONNECTION_WINDOW: u32 = 65_535;

    /// The first setting that has a value with which no server can run, and why.
    pub(crate) fn invalid(&self) -> Option<(&'static str, &'static str)> {
        let is_window = |bytes, min| (min..=Http2::MAX_WINDOW).contains(&bytes);
        let checks = [
            ("http2.max_streams", "is 0", self.max_streams == 0),
            ("http2.max_resets", "is 0", self.max_resets == 0),
            (
                "http2.send_buffer",
                "is not between 16,384 and 2,147,483,647",
                !u32::try_from(self.send_buffer).is_ok_and(|bytes| is_window(bytes, Http2::FRAME)),
            ),
            (
                "http2.stream_window",
                "is not between 16,384 and 2,147,483,647",
                !is_window(self.stream_window, Http2::FRAME),
            ),
            (
                "http2.connection_window",
                "is not between 65,535 and 2,147,483,647",
                !is_window(self.connection_window, Http2::MIN_CONNECTION_WINDOW),
            ),
        ];
        checks.into_iter().find(|(_, _, is_invalid)| *is_invalid).map(|(setting, why, _)| (setting, why))
    }
}

impl Default for Http2 {
    fn default() -> Http2 {
        Http2 {
            enabled: true,
            max_streams: 100,
            max_resets: 200,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            send_buffer: 64 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_no_connection_can_have_are_invalid() {
        let with = |change: fn(&mut Http2)| {
            let mut http2 = Http2::default();
            change(&mut http2);
            http2.invalid().map(|(setting, _)| setting)
        };
        assert_eq!(with(|_| {}), None);
        assert_eq!(with(|http2| http2.max_streams = 0), Some("http2.max_streams"));
        assert_eq!(with(|http2| http2.max_resets = 0), Some("http2.max_resets"));
        for bytes in [0, Http2::FRAME - 1, 1 << 31] {
            let mut http2 = Http2 { send_buffer: bytes as usize, ..Http2::default() };
            assert_eq!(http2.invalid().map(|(setting, _)| setting), Some("http2.send_buffer"));
            http2 = Http2 { stream_window: bytes, ..Http2::default() };
            assert_eq!(http2.invalid().map(|(setting, _)| setting), Some("http2.stream_window"));
        }
        for bytes in [65_534, 1 << 31] {
            let http2 = Http2 { connection_window: bytes, ..Http2::default() };
            assert_eq!(http2.invalid().map(|(setting, _)| setting), Some("http2.connection_window"));
        }
        let largest = Http2 {
            max_streams: u32::MAX,
            max_resets: u32::MAX,
            stream_window: Http2::MAX_WINDOW,
            connection_window: Http2::MAX_WINDOW,
            send_buffer: Http2::MAX_WINDOW as usize,
            ..Http2::default()
        };
        assert_eq!(largest.invalid(), None);
    }
}
