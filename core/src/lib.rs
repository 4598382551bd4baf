//! The core of [gearshift](https://docs.rs/gearshift): an HTTP server whose concurrency model is a gear you
//! shift.
//!
//! Bytes flow one way: [`h1::Connection`], [`Request`], [`Handler`], [`Response`], `h1::Connection`. Three seams let a
//! backend put its own concurrency model under that: [`Transport`], [`Engine`] and [`Backend`]. [`drive()`] joins them
//! and is written once.
//!
//! Applications use the crate `gearshift`, which re-exports the items of this one. The examples for applications write
//! `gearshift::` for that reason; those for authors of backends write `gearshift_core::`.
//!
//! The source is in layers. A layer imports only from the layers before it:
//!
//! | layer | what it holds |
//! | --- | --- |
//! | `proto` | HTTP/1.1 without I/O: the connection, messages, buffers, limits |
//! | `runtime` | what a handler asks of its backend: timers, tasks, pools; settings, shutdown, counters |
//! | `conn` | the life of one connection: driver, exchange, deadlines, liveness |
//! | `server` | the life of a server: listeners, accepting, start, drain, stop |
//! | `web` | what applications use: router, handlers, JSON and forms |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod proto;

mod runtime;

mod conn;

mod server;

mod web;

pub use bytes::Bytes;
#[cfg(feature = "cookies")]
pub use cookie;
pub use http::{self, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

#[cfg(feature = "tls")]
pub use rustls;

pub use proto::body::{Body, BodyError};
pub use proto::fields::{Fields, FieldsIter};
pub use proto::into_response::IntoResponse;
#[cfg(feature = "json")]
pub use proto::into_response::Json;
pub use proto::limits::Limits;
pub use proto::read_buffer::ReadBuffer;
pub use proto::request::{HeadTooLarge, ParamError, Request};
pub use proto::response::Response;
pub use proto::stream::Stream;
pub use proto::write_queue::WriteQueue;
pub use proto::{BoxError, BoxFuture};

pub use runtime::access_log::{AccessFormat, AccessSink};
pub use runtime::body_reader::BodyReader;
pub use runtime::clock;
pub use runtime::config::{self, Config, ForwardedField, OnDisconnect, Overload};
pub use runtime::endpoint::Endpoint;
pub use runtime::handle::{Elapsed, Engine, EngineStats, Runtime, Work};
#[cfg(feature = "http2")]
pub use runtime::http2_config::Http2;
pub use runtime::latch::{self, Latch};
pub use runtime::networks::{Networks, NetworksError};
#[cfg(not(feature = "http2"))]
pub use runtime::no_http2_config::Http2;
#[cfg(not(feature = "tls"))]
pub use runtime::no_tls_config::TlsConfig;
pub use runtime::offload::Job;
pub use runtime::park;
pub use runtime::pool::Busy;
pub use runtime::scope::Scope;
pub use runtime::shutdown::{self, Phase, Shutdown};
pub use runtime::stats::{PoolStats, RouteStats, Stats};
pub use runtime::sync;
pub use runtime::task::{Task, TaskError};
pub use runtime::thread_wrapper::ThreadWrapper;
#[cfg(feature = "pools")]
pub use runtime::threads;
#[cfg(feature = "tls")]
pub use runtime::tls_config::{TlsConfig, TlsError};

pub use conn::cancel::CancelToken;
pub use conn::client::Client;
pub use conn::context::{Peer, RequestContext};
pub use conn::driver::{Driving, drive};
pub use conn::handler::{Answer, Handler, IntoAnswer, RouteOptions};
pub use conn::service::Service;
#[cfg(feature = "tls")]
pub use conn::tls::TlsInfo;
#[cfg(feature = "tracing")]
pub use conn::trace;
pub use conn::transport::{self, Transport};

pub use server::accept::AcceptPause;
pub use server::backend::{self, App, Backend, Report, ServeError, Server};
pub use server::inherited;
pub use server::lifecycle::{self, Threads, Workers};
pub use server::listener::{Bind, Listener};

pub use web::app::StatefulApp;
/// The functions that make handlers. Unlike `gearshift_core::sync`, which is also a module, `handlers::sync` is the
/// function alone.
#[doc(hidden)]
pub use web::handlers;
pub use web::handlers::{
    blocking, body_limit, compute, debug_handler, healthz, metrics, on_disconnect, readyz, sync, timeout,
};
#[cfg(feature = "hyper")]
pub use web::hyper;
pub use web::middleware;
#[cfg(feature = "multipart")]
pub use web::multipart::{Field, Multipart};
pub use web::refusal::Refusal;
pub use web::router::Router;
pub use web::sse;
#[cfg(feature = "tower")]
pub use web::tower;
#[cfg(feature = "ws")]
pub use web::ws;

/// HTTP/1.1 without I/O; see [`h1::Connection`].
pub mod h1 {
    pub use crate::proto::connection::{Buffered, Connection, Event, Piece, WrongLength};
    pub use crate::proto::error::Error;
    pub use crate::proto::proxy_header::{NoHeader as NoProxyHeader, ProxyHeader, Source as ProxySource};
}

/// The checker's `thread_local`, also for values that are marked as constant.
#[cfg(gearshift_model)]
#[doc(hidden)]
#[macro_export]
macro_rules! model_thread_local {
    ($($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };)*) => {
        $crate::sync::model::loom::thread_local! { $($(#[$attribute])* static $name: $type = $value;)* }
    };
    ($($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
        $crate::sync::model::loom::thread_local! { $($(#[$attribute])* static $name: $type = $value;)* }
    };
}
