//! The application that the fault tests run against: [`app`](crate::app::app), and routes that misbehave.

use std::convert::Infallible;
use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, stream};
use gearshift::{Body, Bytes, HeaderValue, Request, Response, Router, StatusCode, Stream, blocking, sync};

use crate::app::{self, ON_PURPOSE};

/// The line that the routes below `/test/log` write to standard error when their handler begins.
pub const BEGUN: &str = "a handler has begun";

/// The size of `/test/large` and `/test/pieces` in bytes: more than the kernel buffers for a socket.
pub const LARGE: usize = 16 << 20;
/// The size of a piece of `/test/pieces` in bytes.
const PIECE: usize = 64 << 10;

/// The application with routes that never end, wait, or panic.
pub fn app() -> Router {
    with_waits(Arc::default())
}

/// The same application, which counts the handlers of `/test/wait/{ms}` and `/test/hold/{ms}` in `waits`.
pub fn with_waits(waits: Arc<Waits>) -> Router {
    let (held, said) = (waits.clone(), waits.clone());
    let large = Bytes::from(vec![b'x'; LARGE]);
    let piece = large.slice(..PIECE);
    app::app()
        .get(
            "/test/endless",
            sync(|request: Request| Response::new(Body::from_reader(request.runtime(), None, Endless))),
        )
        .get("/test/pieces", sync(move |_| pieces(&piece)))
        .get("/test/large", sync(move |_| Response::new(large.clone())))
        .get("/test/held-by/{port}", sync(held_by))
        .get("/test/panic-later", async |request: Request| {
            request.runtime().sleep(Duration::from_millis(1)).await;
            panics()
        })
        .get("/test/panic-blocking", blocking(|_| panics()))
        .get("/test/wait/{ms}", move |request: Request| {
            let waiting = Waiting::begin(&waits);
            async move {
                request.runtime().sleep(millis(&request)?).await;
                drop(waiting);
                Ok::<_, StatusCode>("waited")
            }
        })
        .get(
            "/test/hold/{ms}",
            sync(move |request: Request| {
                let waiting = Waiting::begin(&held);
                thread::sleep(millis(&request)?);
                drop(waiting);
                Ok::<_, StatusCode>("held")
            }),
        )
        .get("/test/log/wait/{ms}", async |request: Request| {
            let pause = millis(&request)?;
            eprintln!("{BEGUN}");
            request.runtime().sleep(pause).await;
            Ok::<_, StatusCode>("waited")
        })
        .get("/test/log/waits/{ms}", async |request: Request| {
            let pause = millis(&request)?;
            eprintln!("{BEGUN}");
            request.runtime().sleep(pause).await;
            request.runtime().sleep(pause).await;
            Ok::<_, StatusCode>("waited twice")
        })
        .get(
            "/test/log/block/{ms}",
            sync(|request: Request| {
                let pause = millis(&request)?;
                eprintln!("{BEGUN}");
                thread::sleep(pause);
                Ok::<_, StatusCode>("blocked")
            }),
        )
        .get("/test/upgrade", sync(|_| Response::upgrade(HeaderValue::from_static("echo"), echo)))
        .get("/test/waits", sync(move |_| said.begun.load(Ordering::SeqCst).to_string()))
}

/// A streamed body whose pieces are all ready.
fn pieces(piece: &Bytes) -> Body {
    let piece = piece.clone();
    let pieces = std::iter::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
    Body::from_stream(stream::iter(pieces.take(LARGE / PIECE)))
}

/// Holds the thread until a listener of the test has accepted a connection and closed it.
fn held_by(request: Request) -> Result<&'static str, StatusCode> {
    let port: u16 = request.param("port").and_then(|port| port.parse().ok()).ok_or(StatusCode::NOT_FOUND)?;
    let mut test = TcpStream::connect(("127.0.0.1", port)).map_err(|_| StatusCode::NOT_FOUND)?;
    let _ = test.read(&mut [0]);
    Ok("released")
}

/// The parameter `ms` of a route.
fn millis(request: &Request) -> Result<Duration, StatusCode> {
    let ms = request.param("ms").and_then(|ms| ms.parse().ok()).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Duration::from_millis(ms))
}

/// A protocol that echoes all bytes.
async fn echo(mut stream: Stream) {
    let mut room = [0; 1000];
    while let Ok(n @ 1..) = stream.read(&mut room).await {
        if stream.write_all(&room[..n]).await.is_err() {
            return;
        }
    }
}

#[expect(clippy::panic)]
fn panics() -> Response {
    panic!("a handler panics, {ON_PURPOSE}")
}

/// A body that never ends.
struct Endless;

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        into.fill(b'x');
        Ok(into.len())
    }
}

/// Counts of the handlers of `/test/wait/{ms}`, which wait, and `/test/hold/{ms}`, which block their thread.
#[derive(Debug, Default)]
pub struct Waits {
    /// Handlers that have begun to wait.
    pub begun: AtomicUsize,
    /// Handlers that wait now.
    pub at_once: AtomicUsize,
}

/// Counts a handler as waiting until it is dropped.
struct Waiting(Arc<Waits>);

impl Waiting {
    fn begin(waits: &Arc<Waits>) -> Waiting {
        waits.begun.fetch_add(1, Ordering::SeqCst);
        waits.at_once.fetch_add(1, Ordering::SeqCst);
        Waiting(waits.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}
