//! A request on a thread of the blocking pool, on an event loop.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use gearshift::{IntoResponse, Request, Response, header};
use pyo3::prelude::*;

use crate::channel::{Channel, End, Head, Producer, Receiver};
use crate::wsgi::Shared;
use crate::wsgi::call::{Called, Items, call, raised};
use crate::wsgi::queue::Worker;

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

/// Runs a request on a thread of the pool. The response is ready when its head is.
pub(super) async fn respond(shared: Arc<Shared>, request: Request) -> Response {
    let job = Arc::new(Job::default());
    let receiver = Receiver::new(job.clone());
    let worker = match Worker::queue(&shared, request, &job) {
        Ok(worker) => worker,
        Err(busy) => return busy.into_response(),
    };
    let mut place = Place { shared: &shared, job: Some(job) };
    // Dropping this future cancels a worker that has not begun. Its output is of no interest.
    let mut running = pin!(worker.map(|worker| shared.runtime.blocking(move || worker.run())));
    if let Some(running) = running.as_mut().as_pin_mut() {
        let _ = running.poll(&mut Context::from_waker(Waker::noop()));
    }
    let head = poll_fn(|cx| receiver.poll_head(cx)).await;
    place.job = None;
    receiver.respond(head)
}

/// The place of a request in the queue. Dropping it removes the request, unless its response has begun.
struct Place<'a> {
    shared: &'a Shared,
    job: Option<Arc<Job>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            self.shared.queue.remove(job);
        }
    }
}

/// Runs a request. Returns the response if it is in memory. Otherwise it was sent to the channel.
pub(super) fn run(
    py: Python<'_>,
    shared: &Arc<Shared>,
    mut request: Request,
    job: &Arc<Job>,
) -> Option<Response> {
    match call(py, shared, &mut request, Some(job.clone())) {
        Ok(Called::Whole(response)) => Some(response),
        Ok(Called::Streamed(head, items)) => {
            stream(py, shared, head, items, job, &request);
            None
        }
        Err(error) => {
            let response = raised(py, shared, &request, &error);
            // If `write` has sent the head, the response is cut.
            job.channel.end(End::Cut);
            Some(response)
        }
    }
}

/// Sends a streamed response.
fn stream(
    py: Python<'_>,
    shared: &Shared,
    head: Option<Response>,
    mut items: Items,
    job: &Job,
    request: &Request,
) {
    if let Some(mut head) = head {
        let length = head.header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        // If the first piece is the whole body, it is sent with the head.
        if let Some(body) = items.take_first_of(length) {
            *head.body_mut() = body.into();
            shared.queue.complete(job, head);
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
