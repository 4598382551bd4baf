//! The parameters that the router finds in the path of a request.

use std::sync::Arc;

use crate::proto::fields::Span;

/// The parameters of a route: their names, shared with the route, and the spans of their values in the head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pub(crate) names: Option<Arc<[Box<str>]>>,
    pub(crate) values: Vec<Span>,
}

impl Params {
    /// The span of the value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<Span> {
        let at = self.names.as_deref()?.iter().position(|known| **known == *name)?;
        self.values.get(at).copied()
    }
}

/// The error of [`Request::parse_param`](crate::Request::parse_param). As a response it is 404: a path whose
/// parameter cannot be parsed names no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// The route has no parameter with this name.
    #[error("the route has no parameter '{name}'")]
    Missing {
        /// The requested name.
        name: String,
    },
    /// The value of the parameter is not of the requested type.
    #[error("'{value}' is no valid {name}")]
    Invalid {
        /// The requested name.
        name: String,
        /// The value in the path, percent-decoded.
        value: String,
    },
}
