//! Pictures over a socket, on every backend that is compiled in.

mod client;
mod neighbours;
mod pictures;
