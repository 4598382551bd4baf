//! The line-by-line check of heads and trailer sections that arrive in pieces, or that are malformed.
//!
//! [`Scan`] looks at each byte once and keeps its position between two calls. Its errors therefore depend only on the
//! bytes, and not on the pieces in which they arrive.

use crate::proto::error::Error;
use crate::proto::limits::Limits;

/// The progress of a line-by-line check of an incomplete head or trailer section. The default is the start of a head.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The number of bytes that were searched for line ends.
    searched: usize,
    /// The start of the line that is incomplete.
    line: usize,
    /// The number of complete field lines.
    fields: usize,
    /// The method and the space after it were read.
    past_method: bool,
    /// The request line was read.
    in_fields: bool,
    /// The number of empty lines before the request line.
    pub(crate) empty_lines: u8,
}

impl Scan {
    /// Creates the scan of a trailer section: field lines without a request line.
    pub(crate) fn trailers() -> Scan {
        Scan { past_method: true, in_fields: true, ..Scan::default() }
    }

    /// Whether no line was searched. Only then may the other stages read the head.
    pub(crate) fn is_fresh(&self) -> bool {
        self.searched == 0
    }

    /// Checks the bytes that were added to `bytes` since the last call. Returns the length of the section, with its
    /// empty line, once it is complete. The first byte that breaks a rule or a limit is an error.
    pub(crate) fn lines(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Error> {
        loop {
            let end = line_end(bytes, self.searched);
            let line = &bytes[self.line..end.unwrap_or(bytes.len())];
            self.check_method(line, limits)?;
            // The line may include the CR of its line end.
            let len = line.strip_suffix(b"\r").unwrap_or(line).len();
            let max_len = if self.in_fields { limits.field_line } else { limits.request_line };
            if len > max_len || end.map_or(bytes.len(), |end| end + 1) > limits.head {
                return Err(self.too_large());
            }
            let Some(end) = end else {
                // A CR is searched again together with the byte after it.
                self.searched = bytes.len() - usize::from(line.ends_with(b"\r"));
                return Ok(None);
            };
            let (Some(line), b'\n') = (line.strip_suffix(b"\r"), bytes[end]) else {
                return Err(Error::LineEnd);
            };
            self.searched = end + 1;
            self.line = end + 1;
            if !self.in_fields {
                check_request_line(line)?;
                self.in_fields = true;
            } else if line.is_empty() {
                return Ok(Some(end + 1));
            } else {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(Error::TooManyFields);
                }
                check_field_line(line)?;
            }
        }
    }

    /// The error for the part of the head that exceeds its limit.
    fn too_large(&self) -> Error {
        match self.in_fields {
            true => Error::FieldsTooLarge,
            false if self.past_method => Error::RequestLineTooLong,
            false => Error::MethodTooLong,
        }
    }

    /// Checks the method before the request line is complete, so that input other than HTTP, for example TLS, is
    /// rejected at its first bytes.
    fn check_method(&mut self, line: &[u8], limits: &Limits) -> Result<(), Error> {
        if self.past_method {
            return Ok(());
        }
        let from = self.searched.min(line.len());
        // Bytes beyond a limit are not checked: the line is too long in any case.
        let until = line.len().min(limits.request_line).min(limits.head);
        let end = line[from..until.max(from)].iter().position(|&byte| !is_token(byte)).map(|at| from + at);
        match end {
            None => Ok(()),
            Some(at) if at > 0 && line[at] == b' ' => {
                self.past_method = true;
                Ok(())
            }
            // A CR at the end may begin the line end. The check of the complete line decides.
            Some(at) if line[at] == b'\r' && at + 1 == line.len() => Ok(()),
            Some(_) => Err(Error::Method),
        }
    }
}

/// The position of the byte that ends the line from `at` on: an LF, or a CR that a byte other than LF follows. The
/// second kind is an error; a parser that searched on for an LF could wait without need.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    let found = at + memchr::memchr2(b'\r', b'\n', &bytes[at..])?;
    match bytes[found..] {
        [b'\r'] => None,
        [b'\r', b'\n', ..] => Some(found + 1),
        _ => Some(found),
    }
}

/// Checks a request line without its line end (RFC 9112, 3). Its method was checked.
fn check_request_line(line: &[u8]) -> Result<(), Error> {
    let mut parts = line.split(|&byte| byte == b' ').skip(1);
    let (Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::RequestLine);
    };
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Error::Target);
    }
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Error::Version),
        _ => Err(Error::RequestLine),
    }
}

/// Checks a field line without its line end (RFC 9112, 5). `line` must not be empty.
fn check_field_line(line: &[u8]) -> Result<(), Error> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Error::Folding);
    }
    let colon = memchr::memchr(b':', line).ok_or(Error::FieldName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Error::FieldName);
    }
    match value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
        true => Ok(()),
        false => Err(Error::FieldValue),
    }
}

/// Whether `byte` is a `tchar` (RFC 9110, 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str, step: usize, limits: &Limits) -> Result<Option<usize>, Error> {
        let mut scan = Scan::default();
        let mut end = 0;
        while end < text.len() {
            end = (end + step).min(text.len());
            if let Some(len) = scan.lines(&text.as_bytes()[..end], limits)? {
                return Ok(Some(len));
            }
        }
        Ok(None)
    }

    /// Scans each text in pieces of several lengths.
    fn check(limits: &Limits, table: &[(Result<Option<usize>, Error>, &[&str])]) {
        for (expected, texts) in table {
            for text in *texts {
                for step in [1, 2, 3, 5, text.len()] {
                    assert_eq!(scan(text, step, limits), *expected, "{text:?} by {step}");
                }
            }
        }
    }

    #[test]
    fn says_the_same_however_a_head_is_chopped() {
        let mut limits = Limits::default();
        (limits.request_line, limits.field_line, limits.fields, limits.head) = (20, 12, 3, 60);
        let long_head = "GET / HTTP/1.1\r\nA: 3456789a\r\nA: 3456789a\r\nA: 3456789a\r\nBBBBBB";
        check(
            &limits,
            &[
                (Ok(Some(18)), &["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.2\r\n\r\n"]),
                (Ok(Some(24)), &["GET / HTTP/1.1\r\nA: b\r\n\r\nrest"]),
                (
                    Ok(None),
                    &["GET", "GET\r", "GET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1\r\nA: 3456789ab\r\n"],
                ),
                (Err(Error::Method), &["\x16\x03\x01", " GET", "GE(T"]),
                (Err(Error::MethodTooLong), &["GETGETGETGETGETGETGETGETGET"]),
                (Err(Error::RequestLine), &["GET\r\n", "GET /\r\n", "GET  / HTTP/1.1\r\n"]),
                (Err(Error::RequestLine), &["GET / HTTP/1.1 \r\n", "GET / http/1.1\r\n"]),
                (Err(Error::RequestLineTooLong), &["GET /123456789 HTTP/1.1\r\n"]),
                (Err(Error::Target), &["GET /\u{e9} HTTP/1.1\r\n"]),
                (Err(Error::Version), &["GET / HTTP/2.0\r\n"]),
                (Err(Error::LineEnd), &["GET / HTTP/1.1\n", "GET / HTTP/1.1\rA: b"]),
                (Err(Error::LineEnd), &["GET / HTTP/1.1\r\nA: b\n\r\n", "GET / HTTP/1.1\r\nA: b\rC"]),
                (Err(Error::LineEnd), &["GET / HTTP/1.1\r\nA: \rb\r\n", "GET / HTTP/1.1\r\nA: b\r\n\rC"]),
                (Err(Error::FieldsTooLarge), &["GET / HTTP/1.1\r\nA: 3456789abcd\r\n"]),
                (Err(Error::FieldsTooLarge), &["GET / HTTP/1.1\r\nA: 3456789abcde", long_head]),
                (Err(Error::TooManyFields), &["GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\n"]),
                (Err(Error::FieldName), &["GET / HTTP/1.1\r\nA : b\r\n", "GET / HTTP/1.1\r\nA\r\n"]),
                (Err(Error::FieldName), &["GET / HTTP/1.1\r\n: b\r\n"]),
                (Err(Error::FieldValue), &["GET / HTTP/1.1\r\nA: \0\r\n"]),
                (Err(Error::Folding), &["GET / HTTP/1.1\r\nA: b\r\n c\r\n"]),
            ],
        );
    }

    #[test]
    fn a_head_shorter_than_its_first_line_may_be_is_too_long_however_it_is_chopped() {
        check(
            &Limits { head: 8, ..Limits::default() },
            &[
                (Err(Error::Method), &["GETGETG(GETGET"]),
                (
                    Err(Error::MethodTooLong),
                    &["GETGETG\r\n", "GETGETGE(GETGET", "GETGETGE GETGET", "GETGETGETGETGET("],
                ),
                (Err(Error::RequestLineTooLong), &["GETGETG /GETGET"]),
            ],
        );
    }

    #[test]
    fn a_section_may_have_exactly_the_size_of_its_limit() {
        let text = "GET / HTTP/1.1\r\nA: b\r\n\r\n";
        for (head, expected) in [(24, Ok(Some(24))), (23, Err(Error::FieldsTooLarge))] {
            check(&Limits { head, ..Limits::default() }, &[(expected, &[text])]);
        }
    }

    #[test]
    fn a_scan_is_fresh_until_it_has_searched_bytes() {
        let mut scan = Scan::default();
        assert!(scan.is_fresh());
        assert_eq!(scan.lines(b"GET", &Limits::default()), Ok(None));
        assert!(!scan.is_fresh());
    }
}
