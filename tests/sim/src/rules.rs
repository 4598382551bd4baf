//! The rules: those for the time in which the server waits, and those for the end.
//!
//! The first half is checked whenever the server waits. What a connection waits for is derived from outside the
//! server, from the bytes that were delivered and answered. A wait that outlasts its limit breaks a rule, and so does
//! a wait in a state in which the server has something to do. The second half compares the responses with the
//! requests.

mod connections;
mod rate;
mod replies;
mod report;
mod thread;
mod wait;
mod waiting;

use std::time::Duration;

pub(crate) use crate::rules::connections::{check_connections, note_accepted};
pub(crate) use crate::rules::rate::Waited;
pub(crate) use crate::rules::replies::check_replies;
pub(crate) use crate::rules::report::check_report;
pub(crate) use crate::rules::thread::{check_poll, note_thread};
pub(crate) use crate::rules::wait::Wait;
pub(crate) use crate::rules::waiting::check_waits;

/// How long a wait may last beyond its limit, in addition to the lateness of the plan.
const TOLERANCE: Duration = Duration::from_millis(50);
