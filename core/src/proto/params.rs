//! The parameters that a route took out of a request's path.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::proto::fields::Span;

/// Parameter names, known to the route, and where their values are in the request's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pub(crate) names: Option<Arc<[Box<str>]>>,
    pub(crate) values: Vec<Span>,
}

impl Params {
    pub(crate) fn get(&self, name: &str) -> Option<Span> {
        let at = self.names.as_deref()?.iter().position(|known| **known == *name)?;
        self.values.get(at).copied()
    }
}

/// Decodes percent-encoding (RFC 3986, 2.1); what is not UTF-8 then is replaced.
pub(crate) fn decode(raw: &[u8]) -> Cow<'_, str> {
    percent_encoding::percent_decode(raw).decode_utf8_lossy()
}

/// Why a path parameter could not be used. As a response it is 404: there is no such resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamError {
    /// The route has no parameter of that name.
    Missing {
        /// The name asked for.
        name: String,
    },
    /// Its value is not of the type asked for.
    Invalid {
        /// The name asked for.
        name: String,
        /// What stands in the path.
        value: String,
    },
}

impl ParamError {
    pub(crate) fn parse<T: FromStr>(name: &str, raw: Option<&[u8]>) -> Result<T, ParamError> {
        let raw = raw.ok_or_else(|| ParamError::Missing { name: name.to_owned() })?;
        let value = decode(raw);
        value.parse().map_err(|_| ParamError::Invalid { name: name.to_owned(), value: value.into_owned() })
    }
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParamError::Missing { name } => write!(f, "the route has no parameter '{name}'"),
            ParamError::Invalid { name, value } => write!(f, "'{value}' is no valid {name}"),
        }
    }
}

impl std::error::Error for ParamError {}
