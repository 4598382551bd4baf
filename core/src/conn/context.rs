//! What a request shares with its connection: the peer's address, the runtime, and the token that tells whether the
//! request was given up.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::conn::cancel::{Cancel, CancelToken};
use crate::proto::request::Request;
use crate::runtime::handle::Runtime;

/// The address of a peer; `None` on a Unix socket.
pub type Peer = Option<SocketAddr>;

/// One value for each connection, shared with all of its requests.
pub(crate) struct Context {
    pub(crate) peer: Peer,
    pub(crate) runtime: Runtime,
    pub(crate) cancel: Cancel,
}

impl Request {
    fn context(&self) -> Option<Arc<Context>> {
        self.inner().context.clone().and_then(|context| context.downcast().ok())
    }

    fn context_ref(&self) -> Option<&Context> {
        self.inner().context.as_deref().and_then(|context| context.downcast_ref())
    }

    /// The peer's address; `None` on a Unix socket and for requests made by hand.
    pub fn peer(&self) -> Peer {
        self.context_ref().and_then(|context| context.peer)
    }

    /// The runtime of the server that received this request: timers, connections, background tasks and threads that
    /// may block, the same on every backend.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use gearshift_core::Request;
    /// async fn later(request: Request) -> &'static str {
    ///     request.runtime().sleep(Duration::from_millis(100)).await;
    ///     "done"
    /// }
    /// ```
    ///
    /// # Panics
    /// If the request was made by hand and [`Request::with_runtime`] was not called.
    pub fn runtime(&self) -> &Runtime {
        self.try_runtime().expect("a request made by hand has no runtime; give it one by `with_runtime`")
    }

    /// As [`Request::runtime`]; `None` instead of a panic.
    pub fn try_runtime(&self) -> Option<&Runtime> {
        self.context_ref().map(|context| &context.runtime)
    }

    /// A request made by hand with a runtime, as a server gives one to each request that it receives. The request has
    /// no peer, and its [`cancel_token`](Request::cancel_token) never tells anything.
    pub fn with_runtime(mut self, runtime: &Runtime) -> Request {
        let context = Context { peer: None, runtime: runtime.clone(), cancel: Cancel::detached() };
        self.inner_mut().context = Some(Arc::new(context));
        self
    }

    /// A token that says whether this request was given up, for code that is not told by being dropped: a sync handler,
    /// a job on a pool, a background task. The token of a request made by hand never tells anything.
    ///
    /// ```
    /// # use gearshift_core::{Request, StatusCode};
    /// fn count(request: Request) -> Result<String, StatusCode> {
    ///     let token = request.cancel_token();
    ///     for step in 0..100 {
    ///         if token.is_cancelled() {
    ///             return Err(StatusCode::SERVICE_UNAVAILABLE);
    ///         }
    ///         // One step of the work.
    ///     }
    ///     Ok("done".into())
    /// }
    /// ```
    pub fn cancel_token(&self) -> CancelToken {
        CancelToken::new(self.context())
    }
}
