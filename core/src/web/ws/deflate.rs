//! Compression of messages, `permessage-deflate` (RFC 7692): its negotiation, and the two directions.
//!
//! tungstenite knows no extensions. Messages to the peer are compressed before tungstenite frames them, and the frame
//! gets the bit RSV1. [`Inflating`] stands between the connection and tungstenite: it replaces the frames of a
//! compressed message by uncompressed fragments, and passes all other frames on as they are. Everything that is wrong
//! with a frame is found by tungstenite, because such a frame is passed on. A message is decompressed piece by piece as
//! tungstenite reads it, so that the limit of tungstenite for messages ends a message that grows too large.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Cursor, Read};

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use http::header::HeaderValue;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// The window of zlib: 32 KiB, the largest that the format allows.
const MAX_WINDOW_BITS: u8 = 15;
/// The smallest window that zlib can use without its own header. The format allows 8.
const MIN_WINDOW_BITS: u8 = 9;
/// The end of each compressed message, which is not sent (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Smaller messages are not compressed.
const MIN_DEFLATED: usize = 32;
/// The bytes that are decompressed at once.
const PIECE: usize = 8 << 10;
/// The key that leaves a payload as it is. tungstenite expects masked frames.
const NO_MASK: [u8; 4] = [0; 4];

/// The members of a value of `Sec-WebSocket-Extensions`. A comma within quotes does not end a member.
pub(super) fn offers(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_end = move |byte: &u8| {
        let was_escaped = std::mem::replace(&mut is_escaped, false);
        match byte {
            _ if was_escaped => {}
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b',' => return !is_quoted,
            _ => {}
        }
        false
    };
    value.split(is_end).map(<[u8]>::trim_ascii)
}

/// One offer of the peer that this server can accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    server_no_context: bool,
    client_no_context: bool,
    server_window_bits: Option<u8>,
}

impl Offer {
    /// Reads one member of `Sec-WebSocket-Extensions` (RFC 7692, 7.1). Returns `None` for other extensions, and for
    /// parameters that this server must or has to decline.
    pub(super) fn parse(member: &[u8]) -> Option<Offer> {
        let mut parts = std::str::from_utf8(member).ok()?.split(';').map(str::trim);
        if parts.next()? != "permessage-deflate" {
            return None;
        }
        let mut offer =
            Offer { server_no_context: false, client_no_context: false, server_window_bits: None };
        let mut client_window = false;
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(value.trim_start().trim_matches('"'))),
                None => (part, None),
            };
            let is_first = match (name, value) {
                ("server_no_context_takeover", None) => {
                    !std::mem::replace(&mut offer.server_no_context, true)
                }
                ("client_no_context_takeover", None) => {
                    !std::mem::replace(&mut offer.client_no_context, true)
                }
                ("server_max_window_bits", Some(bits)) => {
                    let bits = window_bits(bits).filter(|bits| *bits >= MIN_WINDOW_BITS)?;
                    offer.server_window_bits.replace(bits).is_none()
                }
                ("client_max_window_bits", bits) => {
                    bits.is_none_or(|bits| window_bits(bits).is_some())
                        && !std::mem::replace(&mut client_window, true)
                }
                _ => false,
            };
            if !is_first {
                return None;
            }
        }
        Some(offer)
    }
}

/// A number from 8 to 15, without leading zeros.
fn window_bits(text: &str) -> Option<u8> {
    let bits = text.parse().ok().filter(|bits| (8..=MAX_WINDOW_BITS).contains(bits))?;
    (text.starts_with(|first: char| matches!(first, '1'..='9'))).then_some(bits)
}

/// The accepted compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deflate {
    offer: Offer,
}

impl Deflate {
    /// Accepts `offer`. The context is kept between messages if `keep_context` is true and the peer allows it.
    pub(super) fn accept(mut offer: Offer, keep_context: bool) -> Deflate {
        offer.server_no_context |= !keep_context;
        offer.client_no_context |= !keep_context;
        Deflate { offer }
    }

    /// The value of `Sec-WebSocket-Extensions` in the response.
    pub(super) fn response_value(self) -> HeaderValue {
        let mut value = "permessage-deflate".to_owned();
        if self.offer.server_no_context {
            value += "; server_no_context_takeover";
        }
        if self.offer.client_no_context {
            value += "; client_no_context_takeover";
        }
        if let Some(bits) = self.offer.server_window_bits {
            value += &format!("; server_max_window_bits={bits}");
        }
        HeaderValue::try_from(value).expect("the value is visible ASCII")
    }

    /// The compression of messages to the peer.
    pub(super) fn deflater(&self) -> Deflater {
        Deflater {
            window_bits: self.offer.server_window_bits.unwrap_or(MAX_WINDOW_BITS),
            keeps_context: !self.offer.server_no_context,
            context: None,
        }
    }

    /// The decompression of frames from the peer, each of at most `max_frame` bytes.
    pub(super) fn inflating(&self, max_frame: usize) -> Inflating {
        Inflating {
            received: BytesMut::new(),
            ready: BytesMut::new(),
            state: State::Head,
            message: Message::None,
            inflater: None,
            keeps_context: !self.offer.client_no_context,
            max_frame,
        }
    }
}

thread_local! {
    /// A compressor with the largest window that no message uses. It has about 256 KiB.
    static DEFLATER: RefCell<Option<Compress>> = const { RefCell::new(None) };
    /// A decompressor that no message uses.
    static INFLATER: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// Compresses the messages to one peer.
pub(super) struct Deflater {
    window_bits: u8,
    keeps_context: bool,
    /// The compressor, if it keeps its context and has compressed a message.
    context: Option<Compress>,
}

impl Deflater {
    /// Compresses a message. Returns `None` if the message is sent as it is.
    pub(super) fn deflate(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() < MIN_DEFLATED {
            return None;
        }
        let mut compress = self.take();
        let mut deflated = Vec::with_capacity(message.len() / 2 + 64);
        let start = compress.total_in();
        loop {
            let done = (compress.total_in() - start) as usize;
            let outcome = compress.compress_vec(&message[done..], &mut deflated, FlushCompress::Sync);
            outcome.expect("a compressor has no invalid state and no invalid input");
            let is_taken = (compress.total_in() - start) as usize == message.len();
            if is_taken && deflated.len() < deflated.capacity() {
                break;
            }
            deflated.reserve(message.len() / 2 + 64);
        }
        self.put(compress);
        deflated.truncate(deflated.len() - TAIL.len());
        // A peer that keeps the context must have seen all that the compressor has.
        (self.keeps_context || deflated.len() < message.len()).then_some(deflated)
    }

    fn take(&mut self) -> Compress {
        let reused = match self.window_bits {
            _ if self.keeps_context => self.context.take(),
            MAX_WINDOW_BITS => DEFLATER.take(),
            _ => None,
        };
        reused.unwrap_or_else(|| Compress::new_with_window_bits(Compression::fast(), false, self.window_bits))
    }

    fn put(&mut self, mut compress: Compress) {
        if self.keeps_context {
            self.context = Some(compress);
        } else if self.window_bits == MAX_WINDOW_BITS {
            compress.reset();
            DEFLATER.set(Some(compress));
        }
    }
}

/// Replaces compressed messages in the bytes from one peer.
pub(super) struct Inflating {
    /// Received bytes that come after those that `state` has used.
    received: BytesMut,
    /// Bytes for tungstenite.
    ready: BytesMut,
    state: State,
    message: Message,
    /// The decompressor, within a message, and between messages if the peer keeps its context.
    inflater: Option<Decompress>,
    keeps_context: bool,
    max_frame: usize,
}

/// The next bytes of the connection.
enum State {
    /// The head of a frame.
    Head,
    /// So many bytes of a frame that is passed on.
    Passing(u64),
    /// The payload of a frame of a compressed message.
    Payload(Payload),
    /// Bytes after an error, all of which are passed on.
    Broken,
}

/// The payload of a frame of a compressed message.
struct Payload {
    /// The bytes that have not been received.
    left: u64,
    mask: [u8; 4],
    /// The number of bytes that have been received, modulo 4.
    offset: usize,
    /// Received bytes without their mask, which are to be decompressed.
    input: BytesMut,
    /// Decompressed bytes, less than [`PIECE`] of them.
    output: Vec<u8>,
    /// Whether the decompressor had room for more output.
    is_drained: bool,
    /// Whether [`TAIL`] is to be added after the last byte.
    tail: bool,
    is_final: bool,
}

/// The message that the next frame belongs to.
#[derive(Clone, Copy)]
enum Message {
    /// The next frame begins a message.
    None,
    /// A message that is passed on.
    Plain,
    /// A compressed message, and the opcode of the next fragment for tungstenite.
    Compressed(Data),
}

impl Inflating {
    /// Reads bytes for tungstenite. `from` is the connection.
    pub(super) fn read(&mut self, from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
        let mut room = [0; 4096];
        loop {
            if !self.ready.is_empty() {
                let n = self.ready.len().min(into.len());
                self.ready.copy_to_slice(&mut into[..n]);
                return Ok(n);
            }
            if self.step()? {
                continue;
            }
            match from.read(&mut room)? {
                0 => return Ok(0),
                n => self.received.extend_from_slice(&room[..n]),
            }
        }
    }

    /// Handles some of the received bytes. Returns false if more bytes are needed.
    fn step(&mut self) -> io::Result<bool> {
        match &mut self.state {
            State::Head => self.head(),
            State::Passing(0) => {
                self.state = State::Head;
                Ok(true)
            }
            State::Passing(left) => {
                let n = self.received.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                self.ready.unsplit(self.received.split_to(n));
                Ok(n > 0)
            }
            State::Payload(_) => self.payload(),
            State::Broken => {
                self.ready.unsplit(self.received.split());
                Ok(!self.ready.is_empty())
            }
        }
    }

    fn head(&mut self) -> io::Result<bool> {
        let mut cursor = Cursor::new(&self.received[..]);
        let (header, len) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(false),
            Err(_) => {
                self.state = State::Broken;
                return Ok(true);
            }
        };
        let head_len = cursor.position() as usize;
        if let Some((opcode, mask)) = self.compressed(&header).filter(|_| len <= self.max_frame as u64) {
            self.received.advance(head_len);
            self.message = Message::Compressed(opcode);
            self.state = State::Payload(Payload {
                left: len,
                mask,
                offset: 0,
                input: BytesMut::new(),
                output: Vec::new(),
                is_drained: true,
                tail: header.is_final,
                is_final: header.is_final,
            });
            return Ok(true);
        }
        self.message = match (header.opcode, header.is_final, self.message) {
            (OpCode::Control(_), _, message) => message,
            (OpCode::Data(_), true, _) => Message::None,
            (OpCode::Data(_), false, _) => Message::Plain,
        };
        self.ready.unsplit(self.received.split_to(head_len));
        self.state = State::Passing(len);
        Ok(true)
    }

    /// The opcode of the fragments that replace a frame, and the mask of the frame, if it is a valid frame of a
    /// compressed message (RFC 7692, 6.1).
    fn compressed(&self, header: &FrameHeader) -> Option<(Data, [u8; 4])> {
        let opcode = match (header.opcode, self.message) {
            (OpCode::Data(opcode @ (Data::Text | Data::Binary)), Message::None) if header.rsv1 => opcode,
            (OpCode::Data(Data::Continue), Message::Compressed(opcode)) if !header.rsv1 => opcode,
            _ => return None,
        };
        header.mask.filter(|_| !header.rsv2 && !header.rsv3).map(|mask| (opcode, mask))
    }

    fn payload(&mut self) -> io::Result<bool> {
        let Inflating { received, ready, state, message, inflater, .. } = self;
        let (State::Payload(payload), Message::Compressed(opcode)) = (state, message) else {
            return Ok(false);
        };
        let piece = PIECE.min(self.max_frame).max(1);
        if payload.input.is_empty() && payload.is_drained {
            if payload.left > 0 {
                let n = received.len().min(PIECE).min(usize::try_from(payload.left).unwrap_or(PIECE));
                payload.unmask(received.split_to(n));
                return Ok(n > 0);
            }
            if std::mem::take(&mut payload.tail) {
                payload.input.extend_from_slice(&TAIL);
                return Ok(true);
            }
            fragment(ready, opcode, payload.is_final, &payload.output);
            if payload.is_final {
                self.message = Message::None;
                if !self.keeps_context
                    && let Some(inflater) = self.inflater.take()
                {
                    INFLATER.set(Some(inflater));
                }
            }
            self.state = State::Head;
            return Ok(true);
        }
        let inflater = inflater.get_or_insert_with(|| {
            let mut inflater = INFLATER.take().unwrap_or_else(|| Decompress::new(false));
            inflater.reset(false);
            inflater
        });
        let start = payload.output.len();
        payload.output.resize(piece, 0);
        let before = (inflater.total_in(), inflater.total_out());
        let status = inflater.decompress(&payload.input, &mut payload.output[start..], FlushDecompress::Sync);
        let taken = (inflater.total_in() - before.0) as usize;
        let made = (inflater.total_out() - before.1) as usize;
        payload.input.advance(taken);
        payload.output.truncate(start + made);
        payload.is_drained = start + made < piece;
        match status {
            // A peer may end its deflate stream with a message, and begin another (RFC 7692, 7.2.3.4).
            Ok(Status::StreamEnd) => inflater.reset(false),
            Ok(_) if taken > 0 || made > 0 || payload.input.is_empty() => {}
            _ => return Err(CannotInflate.into()),
        }
        if !payload.is_drained {
            fragment(ready, opcode, false, &payload.output);
            payload.output.clear();
        }
        Ok(true)
    }
}

impl Payload {
    fn unmask(&mut self, mut bytes: BytesMut) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte ^= self.mask[(self.offset + at) % 4];
        }
        self.offset = (self.offset + bytes.len()) % 4;
        self.left -= bytes.len() as u64;
        self.input = bytes;
    }
}

/// Appends a fragment of a message that tungstenite reads. The fragments after it are continuations.
fn fragment(ready: &mut BytesMut, opcode: &mut Data, is_final: bool, payload: &[u8]) {
    let opcode = OpCode::Data(std::mem::replace(opcode, Data::Continue));
    let header = FrameHeader { is_final, opcode, mask: Some(NO_MASK), ..FrameHeader::default() };
    let mut head = Vec::new();
    header.format(payload.len() as u64, &mut head).expect("a vector can be written to");
    ready.extend_from_slice(&head);
    ready.extend_from_slice(payload);
}

/// The error of a message that cannot be decompressed.
#[derive(Debug)]
pub(super) struct CannotInflate;

impl CannotInflate {
    /// Whether `error` is this error.
    pub(super) fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<CannotInflate>())
    }
}

impl fmt::Display for CannotInflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a compressed message cannot be decompressed")
    }
}

impl std::error::Error for CannotInflate {}

impl From<CannotInflate> for io::Error {
    fn from(error: CannotInflate) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_accepted_if_all_of_its_parameters_are_known_and_possible() {
        let offer = |server, client, bits| {
            Some(Offer { server_no_context: server, client_no_context: client, server_window_bits: bits })
        };
        for (member, expected) in [
            ("permessage-deflate", offer(false, false, None)),
            ("permessage-deflate; client_max_window_bits", offer(false, false, None)),
            ("permessage-deflate;client_max_window_bits=8", offer(false, false, None)),
            ("permessage-deflate; server_no_context_takeover", offer(true, false, None)),
            ("permessage-deflate; client_no_context_takeover", offer(false, true, None)),
            ("permessage-deflate; server_max_window_bits=9", offer(false, false, Some(9))),
            ("permessage-deflate ; server_max_window_bits = \"15\"", offer(false, false, Some(15))),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits=010", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; client_max_window_bits=", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            ("permessage-deflate; unknown", None),
            ("permessage-deflate; ", None),
            ("permessage-bzip2", None),
            ("", None),
        ] {
            assert_eq!(Offer::parse(member.as_bytes()), expected, "{member:?}");
        }
    }

    #[test]
    fn a_comma_within_quotes_begins_no_offer() {
        for (value, expected) in [
            ("a, permessage-deflate", 2),
            ("a;b=\",permessage-deflate,\"", 1),
            ("a;b=\"\\\",permessage-deflate,\", c", 2),
            ("a;b=\",permessage-deflate", 1),
            ("a\\, c", 2),
        ] {
            assert_eq!(offers(value.as_bytes()).count(), expected, "{value}");
        }
    }

    #[test]
    fn the_answer_names_what_was_asked_for_and_what_is_wanted() {
        for (member, keep, expected) in [
            ("", true, ""),
            ("", false, "; server_no_context_takeover; client_no_context_takeover"),
            ("; server_no_context_takeover", true, "; server_no_context_takeover"),
            ("; server_max_window_bits=10", true, "; server_max_window_bits=10"),
        ] {
            let offer = Offer::parse(format!("permessage-deflate{member}").as_bytes()).expect("an offer");
            let answer = Deflate::accept(offer, keep).response_value();
            assert_eq!(answer, format!("permessage-deflate{expected}"));
        }
    }

    fn deflate(bits: Option<u8>, keep: bool) -> Deflate {
        let offer = Offer { server_no_context: false, client_no_context: false, server_window_bits: bits };
        Deflate::accept(offer, keep)
    }

    /// A masked frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        match payload.len() {
            len @ ..126 => frame.push(0x80 | len as u8),
            len => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        frame
    }

    /// Reads all messages from `bytes`, which arrive in pieces of `step` bytes.
    fn messages(mut inflating: Inflating, bytes: &[u8], step: usize) -> Result<Vec<Vec<u8>>, io::Error> {
        let mut read = BytesMut::new();
        let mut room = [0; 1000];
        for piece in bytes.chunks(step) {
            let mut piece = piece;
            loop {
                match inflating.read(&mut piece, &mut room)? {
                    0 => break,
                    n => read.extend_from_slice(&room[..n]),
                }
            }
        }
        let mut all = Vec::new();
        let mut message = Vec::new();
        while !read.is_empty() {
            let mut cursor = Cursor::new(&read[..]);
            let (header, len) = FrameHeader::parse(&mut cursor).expect("a frame").expect("a whole one");
            assert_eq!((header.mask, header.rsv1), (Some(NO_MASK), false));
            assert_eq!(header.opcode == OpCode::Data(Data::Text), message.is_empty(), "{header:?}");
            let at = cursor.position() as usize;
            read.advance(at);
            message.extend_from_slice(&read.split_to(len as usize));
            if header.is_final {
                all.push(std::mem::take(&mut message));
            }
        }
        Ok(all)
    }

    /// Text of `len` bytes with some repetition.
    fn text(len: usize) -> Vec<u8> {
        (0..)
            .flat_map(|n: u32| format!("the number {}, ", n.wrapping_mul(2_654_435_761) >> 20).into_bytes())
            .take(len)
            .collect()
    }

    #[test]
    fn what_is_compressed_is_decompressed_however_it_arrives() {
        let sent: Vec<_> = [200, 5_000, 8 << 10, 40_000].into_iter().map(text).collect();
        for (bits, keep) in [(None, false), (None, true), (Some(9), false), (Some(9), true)] {
            let mut deflater = deflate(bits, keep).deflater();
            let frames: Vec<u8> = sent
                .iter()
                .flat_map(|message| {
                    let deflated = deflater.deflate(message).expect("it is compressed");
                    let (first, rest) = deflated.split_at(deflated.len() / 3);
                    [frame(0x41, first), frame(0x00, &[]), frame(0x80, rest)].concat()
                })
                .collect();
            for step in [1, 7, 1_000_000] {
                let read = messages(deflate(bits, keep).inflating(1 << 20), &frames, step).expect("messages");
                assert!(read == sent, "{bits:?}, {keep}, {step}");
            }
        }
    }

    #[test]
    fn a_window_that_the_peer_has_limited_is_not_exceeded() {
        let mut deflater = deflate(Some(9), false).deflater();
        let once = text(4096);
        let deflated = deflater.deflate(&[&once[..], &once[..]].concat()).expect("it is compressed");
        let mut inflater = Decompress::new_with_window_bits(false, 9);
        let mut out = vec![0; 2 * 4096 + 1];
        inflater.decompress(&deflated, &mut out, FlushDecompress::Sync).expect("a smaller window is enough");
        assert_eq!(inflater.total_out(), 2 * 4096);
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7692, 7.2.3: one block, a shared context, no compression, a final block, two blocks.
        for (frames, count) in [
            (frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), 1),
            (
                [
                    frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
                    frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00]),
                ]
                .concat(),
                2,
            ),
            (frame(0xc1, &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]), 1),
            (frame(0xc1, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]), 1),
            (frame(0xc1, &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]), 1),
        ] {
            let read = messages(deflate(None, true).inflating(1 << 20), &frames, 1).expect("messages");
            assert_eq!(read, vec![b"Hello".to_vec(); count]);
        }
    }

    #[test]
    fn frames_that_are_not_of_a_compressed_message_are_passed_on() {
        let frames = [
            frame(0x01, b"one"),
            frame(0x89, b"ping"),
            frame(0x80, b"two"),
            frame(0x82, &[7; 300]),
            // RSV1 where it is not allowed: in a continuation, in a control frame, within a message.
            frame(0x41, b"x")[..1].to_vec(),
        ]
        .concat();
        for step in [1, 1000] {
            let mut inflating = deflate(None, true).inflating(1 << 20);
            let mut read = Vec::new();
            for piece in frames.chunks(step) {
                let mut piece = piece;
                let mut room = [0; 100];
                while let Ok(n @ 1..) = inflating.read(&mut piece, &mut room) {
                    read.extend_from_slice(&room[..n]);
                }
            }
            assert_eq!(read, frames[..frames.len() - 1]);
        }
        for bad in [frame(0xc9, b"x"), frame(0xc0, b"x"), [frame(0x01, b"a"), frame(0xc1, b"b")].concat()] {
            let mut inflating = deflate(None, true).inflating(1 << 20);
            let (mut room, mut from) = ([0; 100], &bad[..]);
            let mut read = Vec::new();
            while let Ok(n @ 1..) = inflating.read(&mut from, &mut room) {
                read.extend_from_slice(&room[..n]);
            }
            assert_eq!(read, bad);
        }
    }

    #[test]
    fn bytes_that_are_not_deflate_are_an_error() {
        let error = messages(deflate(None, false).inflating(1 << 20), &frame(0xc1, &[0xff; 40]), 1000);
        assert!(CannotInflate::is_in(&error.expect_err("it is not deflate")));
    }

    #[test]
    fn a_message_that_grows_is_held_in_small_pieces() {
        let mut deflater = deflate(None, false).deflater();
        let deflated = deflater.deflate(&vec![b'x'; 5 << 20]).expect("it is compressed");
        let mut inflating = deflate(None, false).inflating(1 << 20);
        let frames = frame(0xc1, &deflated);
        let (mut from, mut room) = (&frames[..], [0; 1000]);
        let mut len = 0;
        loop {
            let n = inflating.read(&mut from, &mut room).expect("a message");
            if n == 0 {
                break;
            }
            len += n;
            assert!(inflating.ready.len() <= PIECE + 14, "{} bytes wait", inflating.ready.len());
        }
        assert!(len > 5 << 20, "{len}, of {} bytes", deflated.len());
    }
}
