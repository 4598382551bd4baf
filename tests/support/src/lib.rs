//! What the tests and benches of Gearshift share.
//!
//! A test starts a [`Running`](server::Running) server in its own process, or a [`Program`](program::Program) where the
//! test is about a whole process (its memory, its descriptors, its exit status). It talks to the server through a
//! blocking [`Client`](client::Client) that has a deadline on every operation.
//!
//! A backend is a value in all of this. Where a test has to know what kind of backend it runs on, it asks
//! [`backend`] for a property and never compares names.

pub mod app;
pub mod backend;
pub mod client;
pub mod dribble;
pub mod logs;
pub mod process;
pub mod program;
pub mod routes;
pub mod server;
pub mod suite;
pub mod wait;

pub use wait::{PATIENCE, wait_until};
