//! A request on the thread of its connection, on a blocking backend.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gearshift::{Body, Request, Response, StatusCode};
use http_body::Frame;
use pyo3::prelude::*;

use crate::wsgi::call::{Called, Items, call, raised};
use crate::wsgi::{Shared, failed};

/// Calls the application and returns its response. A streamed response holds the thread: its pieces are made on it.
pub(super) fn respond(shared: &Arc<Shared>, mut request: Request) -> Response {
    Python::attach(|py| match call(py, shared, &mut request, None) {
        Ok(Called::Whole(response)) => response,
        Ok(Called::Streamed(head, items)) => {
            let mut response = head.unwrap_or_else(|| failed(StatusCode::INTERNAL_SERVER_ERROR));
            *response.body_mut() = Body::from_http(Pieces { items, request }).holding_thread();
            response
        }
        Err(error) => raised(py, shared, &request, &error),
    })
}

/// The body of a streamed response. Each poll makes the next piece.
struct Pieces {
    items: Items,
    request: Request,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let Pieces { items, request } = &mut *self;
        Poll::Ready(Python::attach(|py| match items.next(py) {
            Ok(Some(piece)) => Some(Ok(Frame::data(piece))),
            Ok(None) => {
                items.close(py);
                None
            }
            Err(error) => {
                items.cut(py, request, &error);
                items.close(py);
                Some(Err("the application raised an exception"))
            }
        }))
    }
}
