//! Deterministic simulation of [gearshift](https://docs.rs/gearshift): the real driver and the real HTTP/1.1 with any
//! handler, under simulated clients, transports, clock and scheduler. Everything is drawn from one 64-bit seed.
//!
//! ```
//! use gearshift_core::{Request, Router, sync};
//! use gearshift_sim::{Ask, Flavour, Simulation};
//! use std::time::Duration;
//!
//! for seed in 0..20 {
//!     let simulation = Simulation::new(seed)
//!         .flavour(Flavour::EventLoop)
//!         .handler(|| {
//!             Router::new().get("/", sync(|_| "Hello, World!")).post("/count", async |request: Request| {
//!                 request.runtime().sleep(Duration::from_millis(20)).await;
//!                 match request.into_body().bytes(10_000).await {
//!                     Ok(bytes) => bytes.len().to_string(),
//!                     Err(error) => error.to_string(),
//!                 }
//!             })
//!         })
//!         .requests(|random| match random % 2 {
//!             0 => Ask::get("/"),
//!             _ => Ask::post("/count", vec![b'x'; (random % 5_000) as usize]),
//!         });
//!     simulation.run().unwrap();
//! }
//! ```
//!
//! # The simulation
//!
//! Clients pipeline, dribble a byte at a time, fall silent, half-close, leave, reset, send garbage, wait for `100
//! Continue`, read slowly or not at all. Windows are as small as a few bytes, writes are cut short, tasks are woken
//! without a reason, deadlines are noticed late, the server has hardly any room, and graceful and forced stops come at
//! any moment, some of them together with new requests. There are no threads and there is no waiting: virtual time
//! jumps to the next event, and an hour of it takes a millisecond.
//!
//! # The flavours
//!
//! On [`Flavour::EventLoop`] every connection that was woken is polled. On [`Flavour::Blocking`] a connection is
//! polled by one of up to three threads, which stays with the connection while it is pending and its handler is at
//! work ([`Driving::is_handling`](gearshift_core::Driving::is_handling)). The threads are simulated, too. A handler
//! that blocks inside a call stops all other connections until the call returns.
//!
//! # The rules
//!
//! * Responses come in the order of the requests, none is lost and none comes twice. Each says which request it
//!   answers, and is read by a parser of the simulation's own.
//! * Each byte is accounted for: a handler reads what the client sent, and a body that was cut is an error.
//! * Each deadline is kept: what a connection waits for is derived from outside the server, and must not outlast its
//!   limit.
//! * Buffers stay within their limits.
//! * The body of a response that holds its thread is polled for a piece when the piece before is written.
//! * A request that had arrived before a graceful stop is answered, or reported as cut. A forced stop ends everything
//!   at once.
//! * A task that reads the body of a request is told at once when the request is over.
//! * At the end nothing is left: no connection, no task, no timer, and no reference to the server.
//! * The driver does not spin, and is not asleep while it has something to do.
//!
//! On the blocking flavour:
//!
//! * Handlers do not overlap on one thread.
//! * A connection holds a thread only while its handler is at work, or a response that holds the thread is sent: not
//!   while it is idle, awaits a small body, streams another response, waits for a slow reader, or lingers.
//! * A response that holds its thread is polled on the thread of its handler, and nothing else begins there.
//! * A request with a small body begins when its body is complete.
//! * A request does not begin if its client left while the request waited for a thread.
//! * Handlers read the same bytes, and are told of the same errors, as on an event loop ([`compare`]).
//!
//! Each [`Fault`] can be built in, which proves that the rules find it.

mod action;
mod application;
mod ask;
mod client;
mod engine;
mod fault;
mod link;
mod observer;
mod plan;
mod reply;
mod rules;
mod server;
mod simulation;
mod stream;
mod transport;
mod world;

pub use ask::Ask;
pub use fault::Fault;
pub use simulation::{Flavour, Outcome, Simulation, Stats, check, compare};
