//! An HTTP/1.1 server core whose concurrency model is a gear you shift: one application, written once, served by
//! a sequential loop, a pool of threads, a hand-written event loop, tokio, async-std or smol.
//!
//! ```no_run
//! use gearshift::{App, Backend, Config, Request, Router, Server, sync};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = |_runtime| {
//!     Router::new()
//!         .get("/", sync(|_| "Hello, World!"))
//!         .get("/hello/{name}", async |request: Request| {
//!             format!("Hello, {}!", request.param("name").unwrap_or_default())
//!         })
//! };
//! let server = Server::bind(&["127.0.0.1:8000".parse()?], Config::default())?;
//! let backend: Backend = "mio".parse()?;
//! backend.serve(server, App::new(app))?;
//! # Ok(())
//! # }
//! ```
//!
//! Which backends are compiled in is a matter of features (`sequential`, `threadpool` and `mio` by default;
//! `tokio`, `async-std`, `smol`); which of those runs is a value, a [`Backend`]. The features `json` and `form` add
//! bodies of those [types](Request#method.json), the feature `cli` a command line for programs ([`cli`](mod@cli)),
//! the feature `tokio-io` tokio's traits for a [`Stream`].
//!
//! Libraries that insist on tokio run on every backend through `async-compat`: the future that needs tokio gets
//! `.compat()`. The document `docs/tokio-only.md` says when, what it costs, and what does not need it.
//!
//! To write a backend, see the three seams: [`transport`], [`runtime`] and [`mod@backend`].

mod choice;
#[cfg(feature = "cli")]
pub mod cli;
mod test_server;

pub use choice::{Backend, BackendError};
#[doc(inline)]
pub use gearshift_core::*;
pub use test_server::TestServer;

/// The README's example, compiled.
#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The document's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/tokio-only.md")]
struct TokioOnly;
