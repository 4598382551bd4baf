//! The decoder of the chunked transfer coding (RFC 9112, 7.1).
//!
//! The decoder can stop and resume between any two bytes, and copies no data. It checks every byte of the grammar:
//! sizes, extensions, the CR LF after each chunk, and the trailer section. The only line end is CR LF.

use crate::proto::error::Error;
use crate::proto::limits::Limits;
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::request_body::Piece;
use crate::proto::scan::{Scan, is_token};
use crate::proto::trailers;

/// The number of hexadecimal digits in 64 bits. A chunk size with more digits must begin with zeros.
const SIZE_DIGITS: u8 = 16;
/// The largest number of overhead bytes in one body: extensions, and leading zeros beyond [`SIZE_DIGITS`]. It bounds
/// the work per byte of data.
const MAX_OVERHEAD: u16 = 4096;
/// The length of a trailer section without fields: its empty line.
const EMPTY_SECTION: usize = 2;

/// The decoder of one body.
#[derive(Debug)]
pub(crate) struct Decoder {
    at: At,
    /// The sum of the chunk sizes read so far.
    total: u64,
    /// The number of overhead bytes read so far; see [`MAX_OVERHEAD`].
    overhead: u16,
}

/// The position of the decoder in the grammar.
#[derive(Debug)]
enum At {
    /// In a chunk size. `digits` counts the digits read, up to [`SIZE_DIGITS`].
    Size {
        size: u64,
        digits: u8,
    },
    /// In the extensions of a chunk of `size` bytes.
    Extension {
        size: u64,
        part: Extension,
    },
    /// After the CR of the line with the chunk size.
    SizeLf {
        size: u64,
    },
    /// In the data of a chunk, of which `left` bytes remain.
    Data {
        left: u64,
    },
    /// After the data of a chunk.
    DataCr,
    /// After the CR that follows the data of a chunk.
    DataLf,
    Trailers(Box<Scan>),
    End,
}

/// The position in the extensions of a chunk, `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC
/// 9112, 7.1.1).
#[derive(Clone, Copy, Debug)]
enum Extension {
    BeforeSemicolon,
    BeforeName,
    Name,
    /// In white space after a name. `=` or `;` must follow.
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    /// After a backslash in a quoted value.
    Escaped,
    /// After the closing quote of a value.
    AfterQuoted,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { at: At::Size { size: 0, digits: 0 }, total: 0, overhead: 0 }
    }

    /// Decodes the next piece of the body and consumes its bytes in `read_buffer`. The decoder must not be used after
    /// an error.
    pub(crate) fn next(&mut self, read_buffer: &mut ReadBuffer, limits: &Limits) -> Result<Piece, Error> {
        loop {
            match &mut self.at {
                At::End => return Ok(Piece::End),
                At::Data { .. } if read_buffer.is_empty() => return Ok(Piece::NeedBytes),
                At::Data { left } => {
                    let data = read_buffer.take_of(left);
                    if *left == 0 {
                        self.at = At::DataCr;
                    }
                    return Ok(Piece::Data(data));
                }
                At::Trailers(scan) => {
                    let Some(len) = scan.lines(read_buffer.as_slice(), limits)? else {
                        return Ok(Piece::NeedBytes);
                    };
                    self.at = At::End;
                    if len > EMPTY_SECTION {
                        let trailers = trailers::parse(&read_buffer.take(len))?;
                        return Ok(Piece::Trailers(Box::new(trailers)));
                    }
                    read_buffer.discard(len);
                }
                _ => {
                    let mut used = 0;
                    for &byte in read_buffer.as_slice() {
                        self.step(byte, limits)?;
                        used += 1;
                        if !self.is_in_framing() {
                            break;
                        }
                    }
                    read_buffer.discard(used);
                    if self.is_in_framing() {
                        return Ok(Piece::NeedBytes);
                    }
                }
            }
        }
    }

    /// Whether the next byte belongs to the line with a chunk size or to the CR LF after a chunk.
    fn is_in_framing(&self) -> bool {
        !matches!(self.at, At::Data { .. } | At::Trailers(_) | At::End)
    }

    /// Reads one byte of a line with a chunk size, or of the CR LF after a chunk.
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<(), Error> {
        self.at = match self.at {
            At::Size { size, digits } => match (byte, (byte as char).to_digit(16)) {
                // 63 bits, as for `Content-Length`.
                (_, Some(_)) if size >> 59 > 0 => return Err(Error::ChunkSize),
                (_, Some(0)) if size == 0 && digits == SIZE_DIGITS => {
                    self.count_overhead(Error::ChunkSize)?;
                    At::Size { size, digits }
                }
                (_, Some(digit)) => {
                    At::Size { size: size * 16 + u64::from(digit), digits: SIZE_DIGITS.min(digits + 1) }
                }
                _ if digits == 0 => return Err(Error::ChunkSize),
                (b'\r', _) => At::SizeLf { size },
                (b';', _) => At::Extension { size, part: Extension::BeforeName },
                (b' ' | b'\t', _) => At::Extension { size, part: Extension::BeforeSemicolon },
                _ => return Err(Error::ChunkSize),
            },
            At::Extension { size, part } => {
                self.count_overhead(Error::ChunkExtension)?;
                match part.step(byte)? {
                    Some(part) => At::Extension { size, part },
                    None => At::SizeLf { size },
                }
            }
            At::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => At::Trailers(Box::new(Scan::trailers())),
                (b'\n', left) => {
                    self.total = self.total.saturating_add(left);
                    if self.total > limits.body {
                        return Err(Error::BodyTooLarge);
                    }
                    At::Data { left }
                }
                _ => return Err(Error::ChunkSize),
            },
            At::DataCr if byte == b'\r' => At::DataLf,
            At::DataLf if byte == b'\n' => At::Size { size: 0, digits: 0 },
            At::DataCr | At::DataLf => return Err(Error::ChunkEnd),
            At::Data { .. } | At::Trailers(_) | At::End => unreachable!("not a part of the coding"),
        };
        Ok(())
    }

    /// Counts an overhead byte. Returns `error` beyond [`MAX_OVERHEAD`].
    fn count_overhead(&mut self, error: Error) -> Result<(), Error> {
        self.overhead += 1;
        if self.overhead > MAX_OVERHEAD { Err(error) } else { Ok(()) }
    }
}

impl Extension {
    /// Reads one byte. Returns `None` for the CR that ends the line.
    fn step(self, byte: u8) -> Result<Option<Extension>, Error> {
        use Extension::{
            AfterName, AfterQuoted, BeforeName, BeforeSemicolon, BeforeValue, Escaped, Name, Quoted, Token,
        };
        let token = is_token(byte);
        Ok(Some(match (self, byte) {
            (Name | Token | AfterQuoted, b'\r') => return Ok(None),
            (BeforeSemicolon | Name | AfterName | Token | AfterQuoted, b';') => BeforeName,
            (Name | AfterName, b'=') => BeforeValue,
            (BeforeValue, b'"') => Quoted,
            (Quoted, b'"') => AfterQuoted,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (BeforeSemicolon | Token | AfterQuoted, b' ' | b'\t') => BeforeSemicolon,
            (Name | AfterName, b' ' | b'\t') => AfterName,
            (BeforeName | BeforeValue, b' ' | b'\t') => self,
            (BeforeName | Name, _) if token => Name,
            (BeforeValue | Token, _) if token => Token,
            _ => return Err(Error::ChunkExtension),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `wire` in pieces of `step` bytes. Returns the body and the number of bytes behind it, or the error.
    fn decode(wire: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, Error> {
        decode_with_trailers(wire, step).map(|end| end.map(|(body, left, _)| (body, left)))
    }

    /// Decodes `wire` as [`decode`] does, and returns the trailers, too: `name=value;` for each.
    fn decode_with_trailers(wire: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize, String)>, Error> {
        let (mut decoder, mut read_buffer) = (Decoder::new(), ReadBuffer::new());
        let (limits, mut body, mut trailers) = (Limits::default(), Vec::new(), String::new());
        let mut pieces = wire.chunks(step);
        loop {
            match decoder.next(&mut read_buffer, &limits)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(fields) => {
                    assert!(trailers.is_empty() && !fields.is_empty());
                    for (name, value) in &*fields {
                        trailers += &format!("{name}={};", value.as_bytes().escape_ascii());
                    }
                }
                Piece::End => {
                    let left = read_buffer.len() + pieces.map(<[u8]>::len).sum::<usize>();
                    return Ok(Some((body, left, trailers)));
                }
                Piece::NeedBytes => match pieces.next() {
                    Some(piece) => read_buffer.extend(piece),
                    None => return Ok(None),
                },
            }
        }
    }

    #[test]
    fn decodes_however_it_is_chopped() {
        let table: &[(Result<Option<(&str, usize)>, Error>, &[&str])] = &[
            (Ok(Some(("", 0))), &["0\r\n\r\n", "0\r\nA: b\r\nC: d\r\n\r\n"]),
            (Ok(Some(("abc", 4))), &["3\r\nabc\r\n0\r\n\r\nrest"]),
            (Ok(Some(("abc0123456789", 0))), &["3\r\nabc\r\nA\r\n0123456789\r\n000\r\n\r\n"]),
            (
                Ok(Some(("abc", 0))),
                &[
                    "3;a=b;c=\"d\\\" e\"\r\nabc\r\n0;x\r\n\r\n",
                    "3 ; a = b ;c\r\nabc\r\n0\r\n\r\n",
                    "00000000000000003\r\nabc\r\n0\r\n\r\n",
                ],
            ),
            (Ok(None), &["3\r\nab", "0\r\n\r", ""]),
            (
                Err(Error::ChunkSize),
                &["\r\n", "+3\r\nabc", "0x3\r\nabc", "3\nabc", " 3\r\nabc", "3\rx", "8000000000000000\r\n"],
            ),
            (Err(Error::ChunkSize), &["00010000000000000003\r\n", "fffffffffffffffff\r\n"]),
            (Err(Error::BodyTooLarge), &["7fffffffffffffff\r\n"]),
            (
                Err(Error::ChunkExtension),
                &["3 \r\nabc", "3;\r\nabc", "3;a\nabc", "3;a=\r\nabc", "3;a=\"\r\nabc", "3;a b\r\nabc"],
            ),
            (Err(Error::ChunkEnd), &["3\r\nabcd\r\n", "3\r\nabc\n", "3\r\nabc\rx"]),
            (Err(Error::Trailer), &["0\r\nContent-Length: 3\r\n\r\n"]),
            (Err(Error::Folding), &["0\r\nA: b\r\n c: d\r\n\r\n"]),
            (Err(Error::FieldName), &["0\r\nA b: c\r\n\r\n"]),
            (Err(Error::LineEnd), &["0\r\nA: b\n\r\n", "0\r\n\n"]),
        ];
        for (expected, wires) in table {
            let expected = expected.map(|end| end.map(|(body, left)| (body.as_bytes().to_vec(), left)));
            for wire in *wires {
                for step in [1, 2, 3, 7, wire.len().max(1)] {
                    assert_eq!(decode(wire.as_bytes(), step), expected, "{wire:?} by {step}");
                }
            }
        }
    }

    #[test]
    fn trailers_are_the_same_however_they_are_chopped() {
        for (section, expected) in [
            ("", ""),
            ("A: b\r\n", "a=b;"),
            ("A: b\r\nC:d\r\nA:\t e f \t\r\n", "a=b;a=e f;c=d;"),
            ("X:\r\nY: \u{e9}:\r\n", "x=;y=\\xc3\\xa9:;"),
        ] {
            let wire = format!("3\r\nabc\r\n0\r\n{section}\r\nrest");
            for step in [1, 2, 3, 7, wire.len()] {
                let end = decode_with_trailers(wire.as_bytes(), step);
                assert_eq!(end, Ok(Some((b"abc".to_vec(), 4, expected.to_owned()))), "{section:?} by {step}");
            }
        }
    }

    #[test]
    fn the_overhead_of_a_body_is_bounded() {
        let max = usize::from(MAX_OVERHEAD);
        let zeros = |overhead| format!("{}1\r\nx\r\n", "0".repeat(usize::from(SIZE_DIGITS) + overhead));
        // The overhead of an extension includes the CR behind it.
        let extension = |overhead| format!("1;{}\r\nx\r\n", "a".repeat(overhead - 1));
        let many = extension(8).repeat(max / 8 - 1);
        for (within, beyond, error) in [
            (zeros(max), zeros(max + 1), Error::ChunkSize),
            (extension(max), extension(max + 1), Error::ChunkExtension),
            (many.clone() + &extension(8), many + &extension(9), Error::ChunkExtension),
        ] {
            let body = vec![b'x'; within.matches('x').count()];
            assert_eq!(decode((within + "0\r\n\r\n").as_bytes(), 100), Ok(Some((body, 0))), "{error}");
            assert_eq!(decode((beyond + "0\r\n\r\n").as_bytes(), 100), Err(error));
        }
    }
}
