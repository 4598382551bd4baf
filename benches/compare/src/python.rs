//! `cargo compare --python`: the same WSGI and ASGI applications on each backend of Gearshift and on other Python
//! servers.
//!
//! An application ([`app::App`]) is a module of `benches/python`. A server ([`server::Server`]) is a command that gets
//! the module and a port. The load, the rounds, the figures and the report are those of the comparison of backends.
//! Differences:
//!
//! * Each server serves in one process. gunicorn, hypercorn and granian have a parent process besides. CPU time and
//!   memory are those of all processes of a server.
//! * Servers with threads have the same number of them ([`server::THREADS`] by default).
//! * A server that is not installed, or that does not answer a route, is left out with a line that says so. A server
//!   that fails during a measurement has no figures for it.
//! * The load comes from the built-in generator, unless `--generator wrk` is given. It polls instead of sleeping
//!   ([`crate::load::Generators::poll`]).
//! * For each load, the figure of the best backend is divided by that of granian, uvicorn and the best other server
//!   of the same round ([`ratios`]).
//! * Claims are about one application each. They tell which backend is a remedy (`claims.rs`).

pub mod app;
mod claims;
mod cli;
pub mod comparison;
pub mod interpreter;
pub(crate) mod markdown;
pub mod ratios;
pub mod scenario;
pub mod server;

pub(crate) use cli::{PythonFlags, Shared};
