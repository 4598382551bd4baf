//! The bridge between bodies and blocking readers, in both directions: [`Body::reader`] and [`Body::from_reader`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::HeaderMap;
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
    ///
    /// A read that blocks holds a thread of the pool for blocking work, on every backend. If the peer leaves during the
    /// read, the connection ends, and the reader is dropped when its read has returned. A reader that may block for
    /// long polls a [`CancelToken`](crate::CancelToken).
    pub fn from_reader(runtime: &Runtime, len: Option<u64>, reader: impl io::Read + Send + 'static) -> Body {
        let next = read_chunk(runtime, reader);
        Body(Inner::Stream(Box::pin(FromReader {
            runtime: runtime.clone(),
            remaining: len,
            next: Some(next),
        })))
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
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::io::{BufRead, BufReader};
///
/// use gearshift::{BodyReader, Request};
///
/// let body = Request::post("/").with_body("one\ntwo\n").into_body();
/// let reader: BodyReader = body.reader();
/// assert_eq!(BufReader::new(reader).lines().count(), 2);
/// ```
#[derive(Debug)]
pub struct BodyReader {
    body: Body,
    chunk: Bytes,
}

impl BodyReader {
    /// Waits for the trailers of the body, as [`Body::trailers`] does. Bytes that were not read are dropped.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use std::io::{self, Read};
    ///
    /// use gearshift::Request;
    ///
    /// // For a blocking handler.
    /// fn upload(request: Request) -> io::Result<String> {
    ///     let (mut reader, mut data) = (request.into_body().reader(), Vec::new());
    ///     reader.read_to_end(&mut data)?;
    ///     let trailers = reader.trailers()?.unwrap_or_default();
    ///     Ok(format!("{} bytes, {} trailers", data.len(), trailers.len()))
    /// }
    /// # drop(upload);
    /// ```
    ///
    /// # Errors
    /// As a read.
    pub fn trailers(&mut self) -> io::Result<Option<HeaderMap>> {
        self.chunk.clear();
        park::block_on(|cx| self.body.poll_trailers(cx)).ok_or_else(would_wait)?.map_err(io::Error::from)
    }
}

/// The error of a read that would have to wait on the thread of an event loop.
fn would_wait() -> io::Error {
    io::Error::other(
        "a blocking read of a body on the thread of an event loop would wait for itself; wrap the handler in \
         `blocking` or make it async",
    )
}

impl io::Read for BodyReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.chunk.is_empty() {
            match park::block_on(|cx| self.body.poll_chunk(cx)).ok_or_else(would_wait)? {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let n = self.chunk.len().min(into.len());
        self.chunk.copy_to_slice(&mut into[..n]);
        Ok(n)
    }
}

/// The stream behind [`Body::from_reader`].
struct FromReader<R> {
    runtime: Runtime,
    /// The number of bytes that were not read, if the length is known.
    remaining: Option<u64>,
    /// The read of the next piece. `None` if the reader has ended or failed.
    next: Option<BoxFuture<(R, io::Result<Bytes>)>>,
}

/// The number of bytes that one call of [`Runtime::blocking`] reads at most.
const MAX_READ: usize = 64 * 1024;

impl<R: io::Read + Send + 'static> http_body::Body for FromReader<R> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(mut next) = self.next.take() else { return Poll::Ready(None) };
        match next.as_mut().poll(cx) {
            Poll::Pending => {
                self.next = Some(next);
                Poll::Pending
            }
            Poll::Ready((_, Err(error))) => Poll::Ready(Some(Err(BodyError::Source(error.into())))),
            Poll::Ready((_, Ok(chunk))) if chunk.is_empty() => Poll::Ready(None),
            Poll::Ready((reader, Ok(chunk))) => {
                self.next = Some(read_chunk(&self.runtime, reader));
                self.remaining = self.remaining.map(|bytes| bytes.saturating_sub(chunk.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Reads the next piece, from the first poll on; an empty one is the end.
fn read_chunk<R>(runtime: &Runtime, mut reader: R) -> BoxFuture<(R, io::Result<Bytes>)>
where
    R: io::Read + Send + 'static,
{
    Box::pin(runtime.blocking(move || {
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
    }))
}
