//! What the servers under test serve: the application of `tests/backends`, and routes that misbehave.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gearshift::{Body, Bytes, Request, Response, Router, Runtime, StatusCode, blocking, sync};

use crate::app::{self, ON_PURPOSE};

/// More than a kernel holds for a socket.
const LARGE: usize = 16 << 20;

pub(crate) fn app(runtime: Runtime) -> Router {
    with_waits(runtime, Arc::default())
}

/// The same, with what `/test/wait/{ms}` does counted.
pub(crate) fn with_waits(runtime: Runtime, waits: Arc<Waits>) -> Router {
    let (later, endless, timers, said) = (runtime.clone(), runtime.clone(), runtime.clone(), waits.clone());
    let large = Bytes::from(vec![b'x'; LARGE]);
    app::app(runtime.clone())
        .get("/test/endless", sync(move |_| Response::new(Body::from_reader(&endless, None, Endless))))
        .get("/test/large", sync(move |_| Response::new(large.clone())))
        .get("/test/panic-later", move |_: Request| {
            let wait = later.sleep(Duration::from_millis(1));
            async move {
                wait.await;
                panics()
            }
        })
        .get("/test/panic-blocking", blocking(&runtime, |_| panics()))
        .get("/test/wait/{ms}", move |request: Request| {
            let (runtime, waiting) = (timers.clone(), Waiting::begin(&waits));
            async move {
                let ms = request.param("ms").and_then(|ms| ms.parse().ok()).ok_or(StatusCode::NOT_FOUND)?;
                runtime.sleep(Duration::from_millis(ms)).await;
                drop(waiting);
                Ok::<_, StatusCode>("waited")
            }
        })
        .get("/test/waits", sync(move |_| said.begun.load(Ordering::SeqCst).to_string()))
}

#[expect(clippy::panic)]
fn panics() -> Response {
    panic!("a handler panics, {ON_PURPOSE}")
}

/// A body without end.
struct Endless;

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        into.fill(b'x');
        Ok(into.len())
    }
}

/// How many handlers have begun to wait, and how many wait.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    pub(crate) begun: AtomicUsize,
    pub(crate) at_once: AtomicUsize,
}

/// A handler that waits, until this is dropped.
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
