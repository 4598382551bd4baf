//! The Rust half of the Python package `gearshift`: it serves WSGI and ASGI applications on every backend.
//!
//! | file | what it is |
//! | --- | --- |
//! | `command.rs` | the command line: the flags of `gearshift::cli`, and those of Python |
//! | `websocket_flags.rs` | the flags of WebSockets |
//! | `foreign_flags.rs` | the flags of gunicorn and uvicorn that have another form here, or none |
//! | `process.rs` | the threads of a process, its start and its stop |
//! | `attach.rs` | the Python state of a thread |
//! | `late.rs` | the log line for a request that exceeds `--timeout` |
//! | `fields.rs` | header fields and paths as Python values, and back |
//! | `channel.rs` | a response on its way to its connection |
//! | `wakes.rs` | the wakes of connections whose responses are complete |
//! | `wsgi/` | WSGI applications (PEP 3333) |
//! | `asgi/` | ASGI applications (ASGI 3.0): HTTP, WebSockets, and the crossing to the asyncio loop |
//!
//! The Python half is in `python/gearshift/`: it finds the application, runs the asyncio loop, and runs the lifespan
//! protocol.

mod asgi;
mod attach;
mod channel;
mod command;
mod errors;
mod fields;
mod foreign_flags;
mod late;
mod process;
mod wakes;
mod websocket_flags;
mod wsgi;

use pyo3::prelude::*;

/// What the Python half imports.
#[pymodule]
mod _gearshift {
    #[pymodule_export]
    use crate::asgi::crossing::Crossing;
    #[pymodule_export]
    use crate::asgi::http::HttpExchange;
    #[pymodule_export]
    use crate::asgi::websocket::WebSocketExchange;
    #[pymodule_export]
    use crate::attach::has_threads;
    #[pymodule_export]
    use crate::errors::{ClientDisconnected, RequestBodyError, log_error, log_exit_of, log_info};
    #[pymodule_export]
    use crate::process::{Reply, run};
    #[pymodule_export]
    use crate::wsgi::errors::Errors;
    #[pymodule_export]
    use crate::wsgi::input::Input;
    #[pymodule_export]
    use crate::wsgi::start_response::StartResponse;
}
