//! The client's parser of responses.
//!
//! The parser shares nothing with the server's own code, so that both do not have the same fault. It is stricter than
//! clients are: what a lenient client would repair is a fault here (RFC 9112, 2 to 7).

use std::fmt;

use crate::ask::TRAILER;

/// A response as the client received it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The request that the response says it answers.
    pub(crate) id: Option<u64>,
    /// What the handler says that it read of the body.
    pub(crate) read: Option<String>,
    /// Whether the response says when to try again.
    pub(crate) has_retry_after: bool,
    /// Whether the response says that it is the last.
    pub(crate) close: bool,
    pub(crate) body: Vec<u8>,
    /// The value of the trailer [`TRAILER`].
    pub(crate) trailer: Option<String>,
    /// Whether the response is complete.
    pub(crate) complete: bool,
}

/// The responses of one connection, as far as they have arrived.
#[derive(Debug)]
pub(crate) struct Replies {
    /// For each request, whether it is a `HEAD`, whose response has no body.
    bodiless: Vec<bool>,
    /// The final responses that have begun.
    pub(crate) finals: Vec<Reply>,
    /// How many times `100 Continue` was received and not used.
    pub(crate) continues: usize,
    /// What was received after the switch to another protocol.
    pub(crate) raw: Vec<u8>,
    /// The protocol to which the server may switch.
    protocol: Option<&'static str>,
    buffer: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    /// The connection has left HTTP.
    Raw,
    /// The last response said that it was the last.
    Over,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = self.read.as_deref().unwrap_or("nothing");
        let end = if self.complete { "" } else { ", cut" };
        let trailer = if self.trailer.is_some() { " and a trailer" } else { "" };
        write!(f, "{}, read {read}, {} bytes{trailer}{end}", self.status, self.body.len())
    }
}

impl Replies {
    pub(crate) fn new(bodiless: Vec<bool>, protocol: Option<&'static str>) -> Replies {
        Replies {
            bodiless,
            finals: Vec::new(),
            continues: 0,
            raw: Vec::new(),
            protocol,
            buffer: Vec::new(),
            state: State::Head,
        }
    }

    /// How many final responses are complete.
    pub(crate) fn complete(&self) -> usize {
        self.finals.len() - usize::from(self.finals.last().is_some_and(|last| !last.complete))
    }

    /// Whether the connection has left HTTP.
    pub(crate) fn is_switched(&self) -> bool {
        self.state == State::Raw
    }

    /// Takes bytes that have arrived.
    ///
    /// # Errors
    /// What is wrong with the response.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// The server has ended its side.
    pub(crate) fn end(&mut self) {
        if self.state == State::UntilClose {
            self.finish();
        }
    }

    /// Parses one element. `false` if more bytes are needed.
    fn step(&mut self) -> Result<bool, String> {
        match self.state {
            State::Head => match find(&self.buffer, b"\r\n\r\n") {
                Some(at) => {
                    let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                    self.head(&head[..at])?;
                    Ok(true)
                }
                None if self.buffer.len() > 64 * 1024 => Err("a response head without an end".into()),
                None => Ok(false),
            },
            State::Length(left) | State::Chunk(left) => {
                let n = usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
                self.body(n);
                let left = left - n as u64;
                let chunked = matches!(self.state, State::Chunk(_));
                self.state = if chunked { State::Chunk(left) } else { State::Length(left) };
                match (left, chunked) {
                    (0, true) => self.state = State::ChunkEnd,
                    (0, false) => self.finish(),
                    _ => return Ok(false),
                }
                Ok(true)
            }
            State::ChunkSize => {
                let Some(at) = find(&self.buffer, b"\r\n") else { return Ok(false) };
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                let text = std::str::from_utf8(&line[..at]).map_err(|_| "a chunk size that is no text")?;
                let size = u64::from_str_radix(text, 16).map_err(|_| format!("a chunk size of {text:?}"))?;
                self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                Ok(true)
            }
            State::Trailers => {
                let Some(at) = find(&self.buffer, b"\r\n") else { return Ok(false) };
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                match std::str::from_utf8(&line[..at]).ok().and_then(|line| line.split_once(": ")) {
                    _ if at == 0 => self.finish(),
                    Some((TRAILER, value))
                        if self.finals.last().is_some_and(|last| last.trailer.is_none()) =>
                    {
                        let trailer = Some(value.to_owned());
                        self.finals
                            .last_mut()
                            .into_iter()
                            .for_each(|reply| reply.trailer.clone_from(&trailer));
                    }
                    _ => return Err(format!("a trailer of {:?}", String::from_utf8_lossy(&line))),
                }
                Ok(true)
            }
            State::ChunkEnd => {
                if self.buffer.len() < 2 {
                    return Ok(false);
                }
                if self.buffer.drain(..2).ne(*b"\r\n") {
                    return Err("a chunk that goes on beyond its size".into());
                }
                self.state = State::ChunkSize;
                Ok(true)
            }
            State::UntilClose => {
                self.body(self.buffer.len());
                Ok(false)
            }
            State::Raw => {
                self.raw.append(&mut self.buffer);
                Ok(false)
            }
            State::Over if self.buffer.is_empty() => Ok(false),
            State::Over => Err("bytes after a response that was to be the last".into()),
        }
    }

    fn body(&mut self, n: usize) {
        if let Some(reply) = self.finals.last_mut() {
            reply.body.extend(self.buffer.drain(..n));
        }
    }

    fn finish(&mut self) {
        self.state = State::Head;
        if let Some(reply) = self.finals.last_mut() {
            reply.complete = true;
            if reply.close {
                self.state = State::Over;
            }
        }
    }

    fn head(&mut self, head: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(head).map_err(|_| "a response head that is no text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or_default();
        let status: u16 = code.parse().map_err(|_| format!("a status line of {status:?}"))?;
        let mut reply = Reply { status, ..Reply::default() };
        let (mut length, mut chunked, mut upgrade) = (None, false, None);
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("a field line of {line:?}"))?;
            if value.bytes().any(|byte| byte < b' ') || !name.bytes().all(is_token) {
                return Err(format!("a field line of {line:?}"));
            }
            match name.to_ascii_lowercase().as_str() {
                "content-length" if length.is_none() => {
                    length = Some(value.parse::<u64>().map_err(|_| format!("a length of {value:?}"))?);
                }
                "transfer-encoding" if value == "chunked" && !chunked => chunked = true,
                "content-length" | "transfer-encoding" => return Err(format!("a second {line:?}")),
                "connection" => {
                    reply.close |= value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
                }
                "upgrade" => upgrade = Some(value),
                "retry-after" => reply.has_retry_after = value.parse::<u32>().is_ok(),
                "sim-id" => reply.id = value.parse().ok(),
                "sim-read" => reply.read = Some(value.into()),
                _ => {}
            }
        }
        if status == 100 {
            self.continues += 1;
            return Ok(());
        }
        if status == 101 && upgrade.is_some() && upgrade == self.protocol && length.is_none() && !chunked {
            reply.complete = true;
            self.finals.push(reply);
            self.state = State::Raw;
            return Ok(());
        }
        if status < 200 {
            return Err(format!("an interim response {status} that no handler sent"));
        }
        if chunked && length.is_some() {
            return Err("a response with two lengths".into());
        }
        // A server that refuses a request, or a connection, has not parsed the method.
        let understood = reply.id.is_some() || (matches!(status, 500 | 503) && !reply.has_retry_after);
        let bodiless = understood && self.bodiless.get(self.finals.len()).copied().unwrap_or(false);
        let close = reply.close;
        self.finals.push(reply);
        self.state = match (bodiless || status == 204 || status == 304, chunked, length) {
            (true, ..) | (_, false, Some(0)) => {
                self.finish();
                return Ok(());
            }
            (_, true, _) => State::ChunkSize,
            (_, _, Some(length)) => State::Length(length),
            _ if close => State::UntilClose,
            _ => return Err("a response without a length that does not close".into()),
        };
        Ok(())
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], chop: usize) -> Result<Replies, String> {
        let mut replies = Replies::new(vec![false, true, false], None);
        for piece in bytes.chunks(chop) {
            replies.feed(piece)?;
        }
        Ok(replies)
    }

    #[test]
    fn reads_responses_however_they_are_chopped() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nSim-Id: 7\r\nContent-Length: 3\r\n\r\nabc\
            HTTP/1.1 200 OK\r\nSim-Id: 8\r\nContent-Length: 9\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\nSim-Trailer: 9\r\n\r\n";
        for chop in 1..bytes.len() {
            let replies = read(bytes, chop).unwrap();
            assert_eq!((replies.complete(), replies.continues), (3, 1));
            assert_eq!(replies.finals[0].id, Some(7));
            assert_eq!(replies.finals[0].body, b"abc");
            assert_eq!(replies.finals[2].body, b"def");
            assert_eq!(replies.finals[2].trailer.as_deref(), Some("9"));
            assert_eq!(replies.finals[0].trailer, None);
        }
    }

    #[test]
    fn refuses_what_is_no_response() {
        for wrong in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSim-Trailer: 1\r\nSim-Trailer: 1\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\nx",
        ] {
            assert!(read(wrong.as_bytes(), wrong.len()).is_err(), "{wrong:?}");
        }
    }
}
