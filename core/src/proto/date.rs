//! The fields `Server` and `Date` of responses, formatted once per second and thread.

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, SystemTime};

const SERVER: &[u8] = b"\r\nServer: gearshift";

/// The formatted fields for one second.
struct Lines {
    /// The Unix time of `Date`.
    seconds: u64,
    /// `Server`, then `Date`, each after a line end.
    text: Vec<u8>,
}

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines { seconds: u64::MAX, text: Vec::new() }) };
}

/// Appends `Server` if `server` is set and `Date` if `date` is set, each after a line end. `seconds` is the Unix time
/// of `Date` (RFC 9110, 5.6.7).
#[inline]
pub(crate) fn append(into: &mut Vec<u8>, seconds: u64, server: bool, date: bool) {
    LINES.with_borrow_mut(|lines| {
        if lines.seconds != seconds {
            lines.write(seconds);
        }
        let from = if server { 0 } else { SERVER.len() };
        let to = if date { lines.text.len() } else { SERVER.len() };
        into.extend_from_slice(&lines.text[from..to]);
    });
}

impl Lines {
    #[cold]
    fn write(&mut self, seconds: u64) {
        // The last second of the year 9999: an HTTP date has four digits for the year.
        const LAST: u64 = 253_402_300_799;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
        self.seconds = seconds;
        self.text.clear();
        self.text.extend_from_slice(SERVER);
        write!(self.text, "\r\nDate: {}", httpdate::HttpDate::from(time)).expect("writing to a Vec succeeds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_lines_that_are_wanted() {
        for (seconds, server, date, expected) in [
            (784_111_777, true, true, "\r\nServer: gearshift\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778, false, true, "\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT"),
            (784_111_778, true, false, "\r\nServer: gearshift"),
            (784_111_778, false, false, ""),
            (u64::MAX, false, true, "\r\nDate: Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let mut text = Vec::new();
            append(&mut text, seconds, server, date);
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
    }
}
