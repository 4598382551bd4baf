//! The [`Handler`] trait, which applications implement.
//!
//! Every async function or closure from [`Request`] to a type that is [`IntoResponse`] is a handler. The functions
//! [`sync`](crate::sync), [`blocking`](crate::blocking()) and [`compute`](crate::compute) convert a synchronous
//! function to a handler and select the thread that runs it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::proto::BoxFuture;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;

/// A function from a request to its response, shared by all connections of a server.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request, with a response or with a future of one.
    ///
    /// On an event loop the call runs on the thread that drives the connections, so it must not block. A panic is
    /// answered with 500.
    fn call(&self, request: Request) -> Answer;
}

/// The return value of a handler.
pub enum Answer {
    /// A response.
    Ready(Response),
    /// A future of the response, and the policy for a peer that leaves before the future is ready. `None` selects
    /// [`Config::on_disconnect`](crate::Config::on_disconnect).
    Later(BoxFuture<Response>, Option<OnDisconnect>),
}

impl Answer {
    /// Waits for the response.
    pub async fn response(self) -> Response {
        match self {
            Answer::Ready(response) => response,
            Answer::Later(future, _) => future.await,
        }
    }

    /// Applies `change` to the response. The policy stays the same.
    pub fn map(self, change: impl FnOnce(Response) -> Response + Send + 'static) -> Answer {
        match self {
            Answer::Ready(response) => Answer::Ready(change(response)),
            Answer::Later(future, policy) => {
                Answer::Later(Box::pin(async move { change(future.await) }), policy)
            }
        }
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
