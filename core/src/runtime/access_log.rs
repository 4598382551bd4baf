//! The settings of the access log: the format of its lines, and where they go.

use std::fmt;

/// The format of the lines of the access log, for [`Config::access_log_format`](crate::Config::access_log_format).
///
/// All formats have the client, the time at which the head of the request began, the request line, the status, the
/// number of bytes of the body that were sent, and the duration in seconds: from the beginning of the head until the
/// system had the last byte of the response, or until the request was given up. Times are in UTC.
///
/// ```text
/// plain     192.0.2.1:4711 - - [06/Nov/1994:08:49:37 +0000] "GET /a?b=c HTTP/1.1" 200 13 0.000150
/// common    192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] "GET /a?b=c HTTP/1.1" 200 13 0.000150
/// combined  192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] "GET /a?b=c HTTP/1.1" 200 13 "http://a/" "curl/8.5.0" 0.000150
/// json      {"time":"1994-11-06T08:49:37Z","client":"192.0.2.1","port":4711,"method":"GET","target":"/a?b=c",
///            "protocol":"HTTP/1.1","status":200,"bytes":13,"duration":0.000150,"complete":true,
///            "referer":"http://a/","user_agent":"curl/8.5.0"}
/// ```
///
/// A line of `json` is one line. No peer can end a line or a part of it: in `json`, quotes, backslashes and everything
/// but printable ASCII are escaped as JSON demands, and bytes that are not UTF-8 become U+FFFD. In the other formats
/// they are `\xHH`; the request line has `\x20` for a space in the target.
///
/// | what | `plain` | `common`, `combined` | `json` |
/// | --- | --- | --- | --- |
/// | the client on a Unix socket | `unix` | `unix` | `"unix"` |
/// | a client that a trusted proxy hides | `-` | `-` | `null` |
/// | no complete head of a valid form was read | `"-"` | `"-"` | `null` for `method`, `target` and `protocol` |
/// | no byte of a response was sent | `-` as the status | 499, as in nginx | `null` |
/// | only a part of the response was sent | `cut` at the end of the line | | `"complete":false` |
/// | no `Referer`, no `User-Agent` | | `"-"` | `null` |
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{AccessFormat, Config};
///
/// let mut config = Config::default();
/// config.access_log = true;
/// config.access_log_format = AccessFormat::Json;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessFormat {
    /// The common log format with the port of the client and the duration.
    #[default]
    Plain,
    /// The common log format of the NCSA, with the duration at the end.
    Common,
    /// The combined log format of Apache and nginx, with the duration at the end.
    Combined,
    /// One JSON object for each line.
    Json,
}

/// A place for the lines of the access log, for [`Config::access_log_to`](crate::Config::access_log_to).
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::sync::{Arc, Mutex};
///
/// use gearshift::{AccessSink, Config};
///
/// /// Keeps all lines in memory.
/// #[derive(Debug, Default)]
/// struct Kept(Mutex<Vec<u8>>);
///
/// impl AccessSink for Kept {
///     fn write(&self, line: &[u8]) {
///         self.0.lock().unwrap().extend_from_slice(line);
///     }
/// }
///
/// let kept = Arc::new(Kept::default());
/// let mut config = Config::default();
/// config.access_log = true;
/// config.access_log_to = Some(kept.clone());
/// ```
pub trait AccessSink: fmt::Debug + Send + Sync + 'static {
    /// Takes one line, which ends with a line feed. The call comes from a thread that serves requests, so it must not
    /// block: a sink that writes to a file queues the line for another thread, and drops it if the queue is full.
    fn write(&self, line: &[u8]);

    /// The number of lines that were dropped so far, for the statistics.
    fn dropped(&self) -> u64 {
        0
    }
}
