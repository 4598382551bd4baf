//! Bodies that hold the thread of their request, observed: where they are polled, and what was written before.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gearshift_core::{Body, BodyError, Response, Runtime};
use http_body::{Frame, SizeHint};

use crate::fault::Fault;
use crate::world::World;

/// A body that holds its thread.
struct Held {
    world: Arc<World>,
    at: usize,
    body: Body,
    /// The thread of its handler, where threads block.
    thread: Option<usize>,
    /// The number of bytes that have to be written before the next piece is asked for.
    due: u64,
    /// If there is one, the poll waits for the next piece.
    blocks_on: Option<Runtime>,
}

/// The same response, whose body holds the thread on which this is called. If there is a runtime, the body waits for its
/// pieces in the poll, where threads block.
pub(super) fn held(world: &Arc<World>, at: usize, response: Response, runtime: Option<Runtime>) -> Response {
    let mut state = world.lock();
    let (thread, forgets) = (state.thread, state.plays(Fault::ForgetHold));
    state.links[at].held_on = thread;
    drop(state);
    let (world, blocks_on) = (world.clone(), runtime.filter(Runtime::threads_block));
    let body = Held { world, at, body: response.into_body(), thread, due: 0, blocks_on };
    let body = Body::from_http(body);
    Response::new(if forgets { body } else { body.holding_thread() })
}

impl Held {
    /// Checks whether the body may be polled now.
    fn check(&self) {
        let mut state = self.world.lock();
        let (thread, written) = (state.thread, state.links[self.at].written);
        if thread != self.thread {
            let (at, on) = (self.at, self.thread);
            state.violate(format!(
                "a body of connection {at} that holds thread {on:?} is polled on {thread:?}"
            ));
        }
        if written < self.due {
            let at = self.at;
            state.violate(format!("a body of connection {at} is polled before its last piece is written"));
        }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.check();
        let body = &mut this.body;
        let frame = match &this.blocks_on {
            Some(runtime) => Poll::Ready(
                runtime.block_on(poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx))),
            ),
            None => http_body::Body::poll_frame(Pin::new(body), cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.due = this.world.lock().links[this.at].written + data.len() as u64;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.world.lock().links[self.at].held_on = None;
    }
}
