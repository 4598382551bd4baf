//! An HTTP server core whose concurrency model is a gear you shift: an application, written once, runs on
//! a sequential loop, a pool of threads, a hand-written event loop, tokio, async-std or smol.
//!
//! ```no_run
//! use gearshift::{Request, Router, ServeError, sync};
//!
//! # fn main() -> Result<(), ServeError> {
//! let app = Router::new()
//!     .get("/", sync(|_| "Hello, World!"))
//!     .get("/hello/{name}", async |request: Request| {
//!         format!("Hello, {}!", request.param("name").unwrap_or_default())
//!     });
//! gearshift::serve("127.0.0.1:8000", app)?;
//! # Ok(())
//! # }
//! ```
//!
//! A program that selects its backend and its settings binds a [`Server`] and passes it to a [`Backend`]:
//!
//! ```no_run
//! use gearshift::{Backend, Config, Router, Server, sync};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = Router::new().get("/", sync(|_| "Hello, World!"));
//! let server = Server::bind(&["127.0.0.1:8000".parse()?], Config::default())?;
//! let backend: Backend = "threadpool".parse()?;
//! backend.serve(server, app)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `sequential`, `threadpool`, `mio` | these backends; on by default |
//! | `tokio`, `async-std`, `smol` | these backends |
//! | `all` | every backend |
//! | `cli` | a command line for programs, `gearshift::cli`; on by default |
//! | `signals` | [`serve`], which ends at a signal; part of `cli` |
//! | `json`, `form` | request and response bodies of these [types](Request#method.json); queries as values |
//! | `multipart` | forms with files, `Request::multipart` |
//! | `cookies` | `Request::cookie`, `Response::with_cookie` and their relatives |
//! | `signed-cookies`, `private-cookies` | cookies that the peer cannot change, or not read either |
//! | `http2` | HTTP/2 on the event loops, with the same handlers; see `docs/http2.md` |
//! | `hyper` | adapters for hyper and the pooled client of hyper-util, `gearshift::hyper` |
//! | `test-client` | a blocking client for tests, `TestServer::send` |
//! | `tls` | connections over TLS with rustls, [`TlsConfig`]; with `cli`, flags for certificates |
//! | `tower` | services, layers and applications of tower and axum, [`tower`] |
//! | `tracing` | spans for connections and requests, and the trace context of W3C, [`trace`] |
//! | `async-compat` | services of tower that need tokio run on every backend |
//! | `tokio-io` | tokio's `AsyncRead` and `AsyncWrite` for a [`Stream`] |
//! | `ws` | WebSocket connections, `gearshift::ws` |
//!
//! A method that the compiler does not find, such as `Request::json`, may belong to a feature that is not enabled.
//!
//! A feature says which backends are compiled in. A value, a [`Backend`], says which of them runs.
//!
//! Libraries that need tokio run on every backend with `async-compat`: the future that needs tokio is wrapped with
//! `.compat()`. The document `docs/tokio-only.md` describes when to use it and what it costs.
//!
//! The module [`mod@backend`] is for authors of backends.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod choice;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "signals")]
mod serve;
#[cfg(feature = "signals")]
mod signals;
#[cfg(feature = "signals")]
mod systemd;
#[cfg(feature = "test-client")]
mod test_client;
mod test_runtime;
mod test_server;

pub use choice::{Backend, BackendError};
#[cfg(feature = "json")]
#[doc(inline)]
pub use gearshift_core::Json;
#[doc(inline)]
pub use gearshift_core::TlsConfig;
#[cfg(feature = "cookies")]
pub use gearshift_core::cookie;
#[doc(inline)]
pub use gearshift_core::handlers::{
    blocking, body_limit, compute, debug_handler, healthz, metrics, on_disconnect, readyz, sync, timeout,
};
#[cfg(feature = "hyper")]
#[doc(inline)]
pub use gearshift_core::hyper;
#[cfg(feature = "tls")]
pub use gearshift_core::rustls;
#[cfg(feature = "tower")]
#[doc(inline)]
pub use gearshift_core::tower;
#[cfg(feature = "tracing")]
#[doc(inline)]
pub use gearshift_core::trace;
#[cfg(feature = "ws")]
#[doc(inline)]
pub use gearshift_core::ws;
#[doc(inline)]
pub use gearshift_core::{
    AccessFormat, AccessSink, Answer, App, Bind, Body, BodyError, BodyReader, BoxError, BoxFuture, Busy,
    Bytes, CancelToken, Client, Config, Elapsed, Endpoint, Fields, FieldsIter, ForwardedField, Handler,
    HeadTooLarge, HeaderMap, HeaderName, HeaderValue, Http2, IntoAnswer, IntoResponse, Limits, Method,
    Networks, NetworksError, OnDisconnect, Overload, ParamError, Peer, Phase, PoolStats, Refusal, Report,
    Request, RequestContext, Response, RouteOptions, RouteStats, Router, Runtime, Scope, ServeError, Server,
    Shutdown, StatefulApp, Stats, StatusCode, Stream, Task, TaskError, ThreadWrapper, Version, Work, header,
    http, middleware, sse,
};
#[cfg(feature = "multipart")]
#[doc(inline)]
pub use gearshift_core::{Field, Multipart};
#[cfg(feature = "tls")]
#[doc(inline)]
pub use gearshift_core::{TlsError, TlsInfo};
#[cfg(feature = "signals")]
pub use serve::serve;
#[cfg(feature = "test-client")]
pub use test_client::TestResponse;
pub use test_runtime::TestRuntime;
pub use test_server::TestServer;

/// What authors of backends use: the seams [`Transport`](backend::Transport), [`Engine`](backend::Engine) and
/// [`Backend`](backend::Backend), and the parts between them. Applications need nothing of it.
/// `tests/seventh/src/lib.rs` is a whole backend in one file, as an example.
pub mod backend {
    #[doc(inline)]
    pub use gearshift_core::backend::*;
    #[doc(inline)]
    pub use gearshift_core::{
        AcceptPause, Driving, Engine, EngineStats, Job, Latch, Listener, ReadBuffer, Service, Threads,
        Transport, Workers, WriteQueue, clock, config, drive, h1, latch, lifecycle, park, shutdown,
        transport,
    };
}

/// Compiles the examples of the documents.
#[cfg(doctest)]
#[cfg_attr(feature = "cli", doc = include_str!("../README.md"))]
#[doc = include_str!("../docs/coming-from.md")]
#[doc = include_str!("../docs/observing.md")]
#[doc = include_str!("../docs/tokio-only.md")]
#[doc = include_str!("../docs/sync-and-async.md")]
struct Documents;
