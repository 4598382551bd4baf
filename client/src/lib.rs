//! A pooled keep-alive client to one service, for handlers: hyper's client connection, which knows no runtime, on
//! [`Runtime::connect`] and [`Runtime::spawn`]. So it is the same client on every backend.
//!
//! [`Runtime::connect`]: gearshift_core::Runtime::connect
//! [`Runtime::spawn`]: gearshift_core::Runtime::spawn
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use gearshift_client::Client;
//! use gearshift_core::{App, Bytes, Refusal, Request, Router, Runtime};
//!
//! /// Asks another service, which has a second to answer.
//! fn app(service: String) -> App {
//!     let client = Arc::new(Client::new(service));
//!     let closing = client.clone();
//!     let start = move |runtime: Runtime| {
//!         Router::new().get("/price", move |_: Request| {
//!             let (runtime, client) = (runtime.clone(), client.clone());
//!             async move {
//!                 let answer = client.get(&runtime, "/price");
//!                 let answer = runtime.timeout(Duration::from_secs(1), answer).await??;
//!                 Ok::<Bytes, Refusal>(answer.into_body())
//!             }
//!         })
//!     };
//!     App::new(start).on_stop(async move || closing.close())
//! }
//! # drop(app("127.0.0.1:1".into()));
//! ```

mod client;
mod error;
mod stream;

pub use client::Client;
pub use error::{ClientError, ErrorKind};
