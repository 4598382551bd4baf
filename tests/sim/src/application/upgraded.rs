//! What the application does with a connection that has left HTTP.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use gearshift_core::{BoxFuture, HeaderValue, Response, Runtime, Stream};

use crate::action::{Action, Kind};
use crate::ask::PROTOCOL;
use crate::fault::Fault;
use crate::world::World;

/// How long the application waits for a client that neither sends nor takes anything.
const IDLE: Duration = Duration::from_secs(60);

/// The response after which the connection speaks the protocol of the simulation.
pub(super) fn switch(world: &Arc<World>, at: usize, runtime: Runtime, action: Action) -> Response {
    let world = world.clone();
    Response::upgrade(HeaderValue::from_static(PROTOCOL), async move |stream| match action.kind {
        Kind::Hold => {
            // Some applications do not care for the stop.
            match action.pieces > 3 {
                true => runtime.sleep(action.pause).await,
                false => _ = runtime.timeout(action.pause, runtime.stopping()).await,
            }
            drop(stream);
        }
        Kind::Release => {
            drop(stream);
            runtime.sleep(action.pause).await;
        }
        _ => Upgraded::new(world, at, runtime, action, stream).echo(action).await,
    })
}

/// A stream that sends back what it receives.
struct Upgraded {
    world: Arc<World>,
    at: usize,
    runtime: Runtime,
    stream: Stream,
    /// Ready when the server begins to stop, if the application wants to know.
    stopping: Option<BoxFuture<()>>,
    /// The number of bytes that were read.
    read: usize,
}

impl Upgraded {
    fn new(world: Arc<World>, at: usize, runtime: Runtime, action: Action, stream: Stream) -> Upgraded {
        let listens = action.kind == Kind::Upgrade && !world.lock().has(Fault::DeafToStop);
        let stopping = listens.then(|| Box::pin(runtime.stopping()) as BoxFuture<()>);
        Upgraded { world, at, runtime, stream, stopping, read: 0 }
    }

    /// Sends back what it receives, until the client or the server ends.
    async fn echo(mut self, action: Action) {
        let mut bytes = vec![0; 1 + action.size % 700];
        while let Some(n @ 1..) = self.wait(|stream, cx| stream.poll_read(cx, &mut bytes)).await {
            self.compare(&bytes[..n]);
            let mut left = &bytes[..n];
            while !left.is_empty() {
                let Some(n) = self.wait(|stream, cx| stream.poll_write(cx, left)).await else { return };
                left = &left[n..];
            }
        }
        if action.pieces > 2 {
            let _ = self.wait(|stream, cx| stream.poll_close(cx)).await;
        }
    }

    /// Waits for the client. `None` if it has failed or waits for too long, or if the server stops.
    async fn wait<T>(
        &mut self,
        mut poll: impl FnMut(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Option<T> {
        let Upgraded { world, at, runtime, stream, stopping, .. } = self;
        let moved = poll_fn(|cx| {
            if stopping.as_mut().is_some_and(|stopping| stopping.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            let is_forced = world.lock().is_forced;
            let polled = poll(Pin::new(stream), cx);
            if is_forced && matches!(polled, Poll::Ready(Ok(_))) {
                let wrong = format!("connection {at} is read or written after a forced stop");
                world.lock().violate(wrong);
            }
            polled.map(Result::ok)
        });
        runtime.timeout(IDLE, moved).await.ok().flatten()
    }

    /// Compares bytes that were read with what the client sent.
    fn compare(&mut self, bytes: &[u8]) {
        let mut state = self.world.lock();
        let client = &state.links[self.at].client;
        let sent = client.asks.last().filter(|_| !client.is_mangled).map(|last| &last.ask.raw);
        let is_same = sent.is_none_or(|sent| sent.get(self.read..self.read + bytes.len()) == Some(bytes));
        self.read += bytes.len();
        if !is_same {
            let wrong = format!("connection {} reads bytes after its upgrade that were never sent", self.at);
            state.violate(wrong);
        }
    }
}
