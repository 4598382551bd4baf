//! What applications use: the router, kinds of handlers, JSON and forms, and refusals.

pub(crate) mod content;
pub(crate) mod handlers;
pub(crate) mod refusal;
pub(crate) mod router;
