//! A stream passes each call to the socket of the backend, after the bytes that arrived before it was created.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_lite::future::block_on;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use gearshift_core::{Bytes, Stream};

/// A socket that gives `input`, records the calls that change it, and takes at most three bytes in a write.
struct Socket {
    input: &'static [u8],
    calls: Arc<Mutex<Vec<String>>>,
}

impl Socket {
    fn record(&self, call: &str, bytes: &[u8]) {
        self.calls.lock().unwrap().push(format!("{call} {}", String::from_utf8_lossy(bytes)));
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_read(cx, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let n = from.len().min(3);
        self.record("write", &from[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = from.iter().flat_map(|slice| slice.iter().copied()).take(3).collect::<Vec<_>>();
        self.record("write slices", &bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.record("flush", b"");
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.record("close", b"");
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
}

/// Creates a stream that gives `abcdef`, of which the first two bytes are early, and the list of the calls that its
/// socket receives.
fn stream() -> (Stream, Arc<Mutex<Vec<String>>>) {
    let calls = Arc::<Mutex<Vec<_>>>::default();
    let socket = Socket { input: b"cdef", calls: calls.clone() };
    (Stream::new(socket).with_early(Bytes::from("ab")), calls)
}

/// Compares the results and the calls of a write, a flush and a close with what the socket does.
fn expect_writes(results: [io::Result<usize>; 3], calls: &Mutex<Vec<String>>, expected: &[&str]) {
    let [written, flushed, closed] = results;
    assert_eq!(written.expect("a write succeeds"), 3);
    assert_eq!(flushed.expect_err("flushing fails").kind(), io::ErrorKind::NotConnected);
    assert_eq!(closed.expect_err("closing fails").kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(*calls.lock().unwrap(), expected);
}

#[test]
fn early_bytes_are_read_first() {
    block_on(async {
        let (mut stream, _) = stream();
        assert_eq!(format!("{stream:?}"), "Stream { early: 2, .. }");
        let mut read = Vec::new();
        let mut piece = [0; 3];
        while let n @ 1.. = stream.read(&mut piece).await.expect("reading succeeds") {
            read.push(piece[..n].to_vec());
        }
        assert_eq!(read, [&b"ab"[..], b"cde", b"f"]);
    });
}

#[test]
fn writes_reach_the_socket() {
    block_on(async {
        let (mut stream, calls) = stream();
        let slices = stream.write_vectored(&[IoSlice::new(b"1"), IoSlice::new(b"234")]).await;
        assert_eq!(slices.expect("a write succeeds"), 3);
        let results = [
            stream.write(b"vwxyz").await,
            stream.flush().await.map(|()| 0),
            stream.close().await.map(|()| 0),
        ];
        expect_writes(results, &calls, &["write slices 123", "write vwx", "flush ", "close "]);
    });
}

#[cfg(feature = "tokio-io")]
#[test]
fn the_traits_of_tokio_reach_the_socket_too() {
    use std::future::poll_fn;

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    block_on(async {
        let (mut stream, calls) = stream();
        let mut memory = [0; 8];
        let mut into = ReadBuf::new(&mut memory);
        for read in [&b"ab"[..], b"abcdef", b"abcdef"] {
            let filled = poll_fn(|cx| AsyncRead::poll_read(Pin::new(&mut stream), cx, &mut into)).await;
            filled.expect("reading succeeds");
            assert_eq!(into.filled(), read);
        }
        let results = [
            poll_fn(|cx| AsyncWrite::poll_write(Pin::new(&mut stream), cx, b"vwxyz")).await,
            poll_fn(|cx| AsyncWrite::poll_flush(Pin::new(&mut stream), cx)).await.map(|()| 0),
            poll_fn(|cx| AsyncWrite::poll_shutdown(Pin::new(&mut stream), cx)).await.map(|()| 0),
        ];
        expect_writes(results, &calls, &["write vwx", "flush ", "close "]);
    });
}
