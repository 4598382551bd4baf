//! A position in a slice of bytes, and the tokens that all rules share.

/// Why a rule does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The bytes end too early. With more bytes the rule may match.
    Short,
    /// The rule does not match, whatever follows.
    Wrong,
}

pub(crate) type Parse<T> = Result<T, Stop>;

/// A position in a slice of bytes.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn peek(&self) -> Parse<u8> {
        self.bytes.get(self.at).copied().ok_or(Stop::Short)
    }

    /// One byte of a kind.
    pub(crate) fn one(&mut self, kind: impl Fn(u8) -> bool) -> Parse<u8> {
        let byte = self.peek()?;
        if !kind(byte) {
            return Err(Stop::Wrong);
        }
        self.at += 1;
        Ok(byte)
    }

    /// `*kind`.
    pub(crate) fn many(&mut self, kind: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.at;
        while self.one(&kind).is_ok() {}
        &self.bytes[start..self.at]
    }

    /// `1*kind`.
    pub(crate) fn some(&mut self, kind: impl Fn(u8) -> bool) -> Parse<&'a [u8]> {
        let start = self.at;
        self.one(&kind)?;
        self.many(kind);
        Ok(&self.bytes[start..self.at])
    }

    /// Exactly these bytes.
    pub(crate) fn text(&mut self, text: &[u8]) -> Parse<()> {
        text.iter().try_for_each(|&expected| self.one(|byte| byte == expected).map(drop))
    }

    pub(crate) fn crlf(&mut self) -> Parse<()> {
        self.text(b"\r\n")
    }

    /// At most `n` of the bytes that are left.
    pub(crate) fn up_to(&mut self, n: u64) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let taken = &rest[..usize::try_from(n).unwrap_or(usize::MAX).min(rest.len())];
        self.at += taken.len();
        taken
    }
}

/// Whether `rule` matches all of `bytes`.
pub(crate) fn is<'a>(bytes: &'a [u8], rule: impl FnOnce(&mut Cursor<'a>) -> Parse<()>) -> bool {
    let mut cursor = Cursor::new(bytes);
    rule(&mut cursor).is_ok() && cursor.is_at_end()
}

/// Whether `rule` cannot match anything that begins with the complete lines of `bytes`. A line is judged once it is
/// complete. Policy: a CR with anything but LF behind it is one (docs/strictness.md, Request line).
pub(crate) fn begins_no<T>(bytes: &[u8], rule: impl FnOnce(&[u8]) -> Parse<T>) -> bool {
    let is_end = |pair: &[u8]| pair[1] == b'\n' || pair[0] == b'\r';
    let lone = usize::from(bytes.first() == Some(&b'\n'));
    let whole = bytes.windows(2).rposition(is_end).map_or(lone, |last| last + 2);
    matches!(rule(&bytes[..whole]), Err(Stop::Wrong))
}

/// `tchar` (RFC 9110, 5.6.2).
pub(crate) fn tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `VCHAR` (RFC 5234, B.1).
pub(crate) fn vchar(byte: u8) -> bool {
    (0x21..=0x7e).contains(&byte)
}

/// `obs-text` (RFC 9110, 5.5).
pub(crate) fn obs_text(byte: u8) -> bool {
    byte >= 0x80
}

/// What `OWS` and `BWS` are made of (RFC 9110, 5.6.3).
pub(crate) fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `bytes` without the `OWS` around them.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|&byte| !blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// The members of `#element` (RFC 9110, 5.6.1), for elements without quoted strings.
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trimmed).filter(|member| !member.is_empty())
}
