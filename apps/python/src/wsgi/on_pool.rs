//! A request on a thread of the blocking pool, on an event loop.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures_util::future::Either;
use gearshift::{Busy, IntoResponse, Request, Response, header};
use pyo3::prelude::*;

use crate::channel::{Channel, End, Head, Producer, Receiver};
use crate::wsgi::Shared;
use crate::wsgi::call::{Called, Items, call, raised};

/// The thread that makes a response.
#[derive(Default)]
pub(crate) struct Job {
    channel: Channel,
    /// Notified when the channel has room or is closed. The lock guards nothing: it orders the check and the wait.
    room: (Mutex<()>, Condvar),
}

impl Producer for Job {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn notify(self: Arc<Self>) {
        drop(self.room.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.room.1.notify_all();
    }
}

impl Job {
    /// Sends the head of a response whose pieces follow.
    pub(crate) fn begin(&self, head: Response) {
        self.channel.begin(Head::Streamed(head));
    }

    /// Sends a piece, and waits while too many bytes wait for the client. Returns whether the client is there.
    pub(crate) fn send(&self, piece: Bytes) -> bool {
        let guard = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.room.1.wait_while(guard, |()| self.channel.is_full()));
        if self.channel.is_closed() {
            return false;
        }
        self.channel.send(piece);
        true
    }
}

/// Runs a request as one job of the pool. The response is ready when its head is.
pub(super) async fn respond(shared: Arc<Shared>, request: Request) -> Response {
    let job = Arc::new(Job::default());
    let receiver = Receiver::new(job.clone());
    let (runtime, may_refuse) = (shared.runtime.clone(), shared.process.options().pool_refuses);
    let run = move || run(&shared, request, &job);
    let mut running = pin!(match may_refuse {
        true => Either::Left(runtime.try_blocking(run)),
        false => {
            let running = runtime.blocking(run);
            Either::Right(async { Ok::<_, Busy>(running.await) })
        }
    });
    let mut has_returned = false;
    let head = poll_fn(|cx| {
        if !has_returned && let Poll::Ready(returned) = running.as_mut().poll(cx) {
            has_returned = true;
            match returned {
                Ok(Some(response)) => return Poll::Ready(Head::Whole(response)),
                Ok(None) => {}
                Err(busy) => return Poll::Ready(Head::Whole(busy.into_response())),
            }
        }
        receiver.poll_head(cx)
    });
    let head = head.await;
    receiver.respond(head)
}

/// Runs the job. Returns the response if it is in memory. Otherwise it was sent to the channel.
fn run(shared: &Arc<Shared>, mut request: Request, job: &Arc<Job>) -> Option<Response> {
    Python::attach(|py| {
        match call(py, shared, &mut request, Some(job.clone())) {
            Ok(Called::Whole(response)) => Some(response),
            Ok(Called::Streamed(head, items)) => {
                stream(py, head, items, job, &request);
                None
            }
            Err(error) => {
                let response = raised(py, shared, &request, &error);
                // If `write` has sent the head, the response is cut.
                job.channel.end(End::Cut);
                Some(response)
            }
        }
    })
}

/// Sends a streamed response.
fn stream(py: Python<'_>, head: Option<Response>, mut items: Items, job: &Job, request: &Request) {
    if let Some(mut head) = head {
        let length = head.header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        // If the first piece is the whole body, it is sent with the head.
        if let Some(body) = items.take_first_of(length) {
            *head.body_mut() = body.into();
            job.channel.begin(Head::Whole(head));
        } else {
            job.begin(head);
        }
    }
    let end = loop {
        match items.next(py) {
            Ok(Some(piece)) => {
                if !py.detach(|| job.send(piece)) {
                    break End::Cut;
                }
            }
            Ok(None) => break End::Complete,
            Err(error) => {
                items.cut(py, request, &error);
                break End::Cut;
            }
        }
    };
    job.channel.end(end);
    items.close(py);
}
