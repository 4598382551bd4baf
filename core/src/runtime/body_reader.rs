//! The bridge between bodies and blocking readers, in both directions: [`Body::reader`] and [`Body::from_reader`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

use crate::proto::BoxFuture;
use crate::proto::body::{Body, BodyError, Inner};
use crate::runtime::handle::Runtime;
use crate::runtime::park;

impl Body {
    /// Creates a body from a blocking reader, which is read through [`Runtime::blocking`] in pieces of up to 64 KiB.
    /// `len` is the length in bytes, if it is known.
    ///
    /// A read error, or another number of bytes than `len`, cuts the connection.
    pub fn from_reader(runtime: &Runtime, len: Option<u64>, reader: impl io::Read + Send + 'static) -> Body {
        let runtime = runtime.clone();
        let state = ReaderState::Idle(Box::new(reader));
        Body(Inner::Stream(Box::pin(FromReader { runtime, remaining: len, state })))
    }

    /// Converts the body to a blocking reader, for sync handlers on blocking backends and for work inside
    /// [`Runtime::blocking`].
    ///
    /// On the thread of an event loop, a read that would have to wait returns an error: the thread would wait for
    /// itself.
    pub fn reader(self) -> BodyReader {
        BodyReader { body: self, chunk: Bytes::new() }
    }
}

/// A blocking reader of a body, from [`Body::reader`]. Its errors contain a [`BodyError`].
#[derive(Debug)]
pub struct BodyReader {
    body: Body,
    chunk: Bytes,
}

impl io::Read for BodyReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.chunk.is_empty() {
            match park::block_on(|cx| self.body.poll_chunk(cx)) {
                Some(Some(chunk)) => self.chunk = chunk?,
                Some(None) => return Ok(0),
                None => {
                    return Err(io::Error::other(
                        "a blocking read of a body on the thread of an event loop would wait for itself; wrap the \
                         handler in `blocking` or make it async",
                    ));
                }
            }
        }
        let n = self.chunk.len().min(into.len());
        self.chunk.copy_to_slice(&mut into[..n]);
        Ok(n)
    }
}

/// The stream behind [`Body::from_reader`].
struct FromReader {
    runtime: Runtime,
    /// The number of bytes that were not read, if the length is known.
    remaining: Option<u64>,
    state: ReaderState,
}

enum ReaderState {
    /// No read is in progress.
    Idle(Box<dyn io::Read + Send>),
    /// A thread reads.
    Reading(BoxFuture<(Box<dyn io::Read + Send>, io::Result<Bytes>)>),
    /// The reader has ended or failed.
    Ended,
}

/// The number of bytes that one call of [`Runtime::blocking`] reads at most.
const MAX_READ: usize = 64 * 1024;

impl http_body::Body for FromReader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            match std::mem::replace(&mut this.state, ReaderState::Ended) {
                ReaderState::Idle(reader) => {
                    this.state =
                        ReaderState::Reading(Box::pin(this.runtime.blocking(move || read_chunk(reader))));
                }
                ReaderState::Reading(mut reading) => match reading.as_mut().poll(cx) {
                    Poll::Pending => {
                        this.state = ReaderState::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready((_, Err(error))) => {
                        return Poll::Ready(Some(Err(BodyError::Source(error.into()))));
                    }
                    Poll::Ready((_, Ok(chunk))) if chunk.is_empty() => return Poll::Ready(None),
                    Poll::Ready((reader, Ok(chunk))) => {
                        this.state = ReaderState::Idle(reader);
                        if let Some(remaining) = &mut this.remaining {
                            *remaining = remaining.saturating_sub(chunk.len() as u64);
                        }
                        return Poll::Ready(Some(Ok(Frame::data(chunk))));
                    }
                },
                ReaderState::Ended => return Poll::Ready(None),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Reads the next piece; an empty one is the end.
fn read_chunk(mut reader: Box<dyn io::Read + Send>) -> (Box<dyn io::Read + Send>, io::Result<Bytes>) {
    let mut chunk = vec![0; MAX_READ];
    let outcome = loop {
        match reader.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(error),
            Ok(n) => {
                chunk.truncate(n);
                break Ok(Bytes::from(chunk));
            }
        }
    };
    (reader, outcome)
}
