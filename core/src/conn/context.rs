//! The values that a request shares with its connection: its origin, the runtime, and the cancellation state.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::conn::cancel::{Cancel, CancelToken};
use crate::conn::client::Origin;
use crate::conn::maybe_tls::TlsSlot;
use crate::proto::request::Request;
use crate::proto::request_parts::Carried;
use crate::runtime::handle::Runtime;
use crate::runtime::shutdown::Shutdown;

/// The address of a peer; `None` on a Unix socket.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Peer, Request};
///
/// async fn who(request: Request) -> String {
///     let peer: Peer = request.peer();
///     peer.map_or("a Unix socket".to_owned(), |address| address.ip().to_string())
/// }
/// # drop(who);
/// ```
pub type Peer = Option<SocketAddr>;

/// The values of one connection that all of its requests share.
pub(crate) struct Context {
    pub(crate) origin: Origin,
    pub(crate) runtime: Runtime,
    pub(crate) cancel: Cancel,
    /// The TLS session of the connection, once its handshake has ended.
    #[cfg_attr(not(any(feature = "tls", feature = "http2")), expect(dead_code))]
    pub(crate) tls: TlsSlot,
}

impl Context {
    pub(crate) fn new(origin: Origin, runtime: Runtime, cancel: Cancel) -> Context {
        Context { origin, runtime, cancel, tls: TlsSlot::default() }
    }
}

/// The values that requests of the `http` crate have beside their own: those of the request from which they were made.
///
/// Services and layers of tower find it among the extensions of a request.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Method, Request, RequestContext};
///
/// let request = Request::new(Method::GET, "/", ()).into_http()?;
/// let context = RequestContext::of(request.extensions()).expect("the request was a request of this crate");
/// assert_eq!(context.peer(), None);
/// # Ok::<(), gearshift::http::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RequestContext(CancelToken);

impl RequestContext {
    /// The values of the request with these extensions. `None` if it was not made by [`Request::into_http`].
    pub fn of(extensions: &http::Extensions) -> Option<RequestContext> {
        let carried: &Carried = extensions.get()?;
        Some(RequestContext(CancelToken(carried.context.clone().and_then(|context| context.downcast().ok()))))
    }

    pub(crate) fn context(&self) -> Option<&Context> {
        self.0.0.as_deref()
    }

    /// The peer's address, as [`Request::peer`].
    pub fn peer(&self) -> Peer {
        self.context().and_then(|context| context.origin.peer)
    }

    /// The runtime of the server, as [`Request::try_runtime`].
    pub fn runtime(&self) -> Option<&Runtime> {
        self.context().map(|context| &context.runtime)
    }

    /// A token that tells when the response is no longer needed, as [`Request::cancel_token`].
    pub fn cancel_token(&self) -> CancelToken {
        self.0.clone()
    }
}

impl Request {
    pub(crate) fn context(&self) -> Option<&Context> {
        self.inner().context.as_deref().and_then(|context| context.downcast_ref())
    }

    /// Returns the address of the peer of the connection, or the one in its header of the PROXY protocol
    /// ([`Config::proxy_protocol_from`](crate::Config::proxy_protocol_from)). `None` on a Unix socket, and for a
    /// request that no server has received. [`Request::client`] is the client for which a trusted proxy has forwarded
    /// the request.
    pub fn peer(&self) -> Peer {
        self.context().and_then(|context| context.origin.peer)
    }

    /// Returns the runtime of the server that received this request. It has timers, outgoing connections, background
    /// tasks and thread pools, with the same interface on every backend.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use std::time::Duration;
    /// # use gearshift::Request;
    /// async fn later(request: Request) -> &'static str {
    ///     request.runtime().sleep(Duration::from_millis(100)).await;
    ///     "done"
    /// }
    /// ```
    ///
    /// # Panics
    /// If no server has received the request and [`Request::with_runtime`] was not called.
    pub fn runtime(&self) -> &Runtime {
        self.try_runtime().expect("a request made by hand has no runtime; give it one by `with_runtime`")
    }

    /// Returns the runtime like [`Request::runtime`], or `None` if the request has none.
    pub fn try_runtime(&self) -> Option<&Runtime> {
        self.context().map(|context| &context.runtime)
    }

    /// Sets the runtime of a request that no server has received, for tests. The request has no peer, and its
    /// [`cancel_token`](Request::cancel_token) is never cancelled.
    pub fn with_runtime(mut self, runtime: &Runtime) -> Request {
        let origin = Origin::unknown();
        let context = Context::new(origin, runtime.clone(), Cancel::new(Shutdown::new()));
        self.inner_mut().context = Some(Arc::new(context));
        self
    }

    /// Returns a token that reports whether this request was cancelled. It is for code that is not dropped with the
    /// handler's future: a sync handler, a job on a pool, a background task. The token of a request that no server has
    /// received is never cancelled.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Request, StatusCode};
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
        CancelToken(self.inner().context.clone().and_then(|context| context.downcast().ok()))
    }
}
