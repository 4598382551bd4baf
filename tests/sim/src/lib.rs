//! Deterministic simulation of [gearshift](https://docs.rs/gearshift): the real driver, the real HTTP/1.1, any
//! handler, under simulated clients, transports, clock and scheduler, all of it drawn from one 64-bit seed.
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
//! # What is simulated
//!
//! Clients that pipeline, dribble a byte at a time, fall silent, half-close, leave, reset, send garbage, wait for `100
//! Continue`, read slowly or not at all; windows of a few bytes; writes that are cut short; wake-ups for no reason;
//! deadlines noticed late; a server with hardly any room; graceful and forced stops at any moment. There are no
//! threads and there is no waiting: virtual time jumps to the next event, and an hour of it takes a millisecond.
//!
//! # What has to hold
//!
//! * Responses come in the order of the requests, none lost, none twice: each says which request it is to, and is read
//!   by a parser of its own.
//! * Each byte is accounted for: what a handler reads is what the client sent, and a body that was cut is an error.
//! * Each deadline is kept: what a connection waits for is worked out from the outside, and may not outlast its limit.
//! * Buffers stay within their limits.
//! * What had arrived before a graceful stop is answered, or reported as cut; a forced stop ends everything at once.
//! * At the end nothing is left: no connection, no task, no timer, and nobody who holds the server.
//! * The driver neither spins nor sleeps through news.
//!
//! That these rules find what they are for is proved by building each [`Fault`] in.
//!
//! # What a thread that waits holds up
//!
//! [`Flavour::Blocking`] is simulated without threads, too: a wait inside a read or a write holds up all other
//! connections, as with the sequential backend; handlers that wait share up to three workers.

mod ask;
mod client;
mod deed;
mod engine;
mod fault;
mod link;
mod plan;
mod probe;
mod reply;
mod rules;
mod run;
mod simulation;
mod transport;
mod watch;
mod world;

pub use ask::Ask;
pub use fault::Fault;
pub use simulation::{Flavour, Outcome, Simulation, Stats, check, compare};
