//! What a user writes: a [`Handler`], sync or async.
//!
//! An async function or closure from [`Request`] to anything that is [`IntoResponse`] is a handler as it is. A
//! plain function becomes one through [`sync`], [`blocking()`] or [`compute`], which say where it runs.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::proto::BoxFuture;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request: at once, or with a future.
    ///
    /// On an event loop this runs on the thread that drives the connections: it must be quick.
    fn call(&self, request: Request) -> Answer;
}

/// What a handler gives back.
pub enum Answer {
    /// The response is here.
    Ready(Response),
    /// The response is the output of this future. The policy says what becomes of the future when the peer leaves;
    /// `None`: [`Config::on_disconnect`](crate::Config::on_disconnect).
    Later(BoxFuture<Response>, Option<OnDisconnect>),
}

impl Answer {
    /// Polls for the response.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response> {
        match self {
            Answer::Later(future, _) => future.as_mut().poll(cx),
            Answer::Ready(response) => {
                Poll::Ready(std::mem::replace(response, Response::status_only(http::StatusCode::OK)))
            }
        }
    }

    /// Waits for the response.
    pub async fn response(self) -> Response {
        match self {
            Answer::Ready(response) => response,
            Answer::Later(future, _) => future.await,
        }
    }

    /// The same answer with `change` made to its response.
    pub fn map(self, change: impl FnOnce(Response) -> Response + Send + 'static) -> Answer {
        match self {
            Answer::Ready(response) => Answer::Ready(change(response)),
            Answer::Later(future, policy) => {
                Answer::Later(Box::pin(async move { change(future.await) }), policy)
            }
        }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer::Ready(response)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Ready(response) => f.debug_tuple("Ready").field(response).finish(),
            Answer::Later(_, policy) => f.debug_tuple("Later").field(policy).finish(),
        }
    }
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoResponse,
{
    fn call(&self, request: Request) -> Answer {
        let response = self(request);
        Answer::Later(Box::pin(async move { response.await.into_response() }), None)
    }
}

impl Handler for Arc<dyn Handler> {
    fn call(&self, request: Request) -> Answer {
        (**self).call(request)
    }
}

impl Handler for Box<dyn Handler> {
    fn call(&self, request: Request) -> Answer {
        (**self).call(request)
    }
}
