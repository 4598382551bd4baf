//! What goes into a database and comes out of it: the five kinds of value that SQLite has, and PostgreSQL too.

use crate::Error;

/// A parameter of a statement, or a column of a row.
///
/// Truth is an [`Integer`](Value::Integer), 0 or 1, on both databases. What else there is (times, decimals, JSON) is
/// text or a number to SQLite, and is to be cast to one in PostgreSQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A whole number, or a truth.
    Integer(i64),
    /// A number, and never NaN, which SQLite does not know.
    Real(f64),
    /// Text without NUL, which PostgreSQL does not know.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// What is wrong with it: one of the databases would refuse or change it, so that neither gets it.
    fn fault(&self) -> Option<&'static str> {
        match self {
            Value::Real(number) if number.is_nan() => Some("it is not a number"),
            Value::Text(text) if text.contains('\0') => Some("it is text with NUL"),
            _ => None,
        }
    }
}

/// The parameters of a statement, if each is one that both databases can keep.
pub(crate) fn checked(params: Vec<Value>) -> Result<Vec<Value>, Error> {
    match params.iter().zip(1..).find_map(|(value, number)| Some((number, value.fault()?))) {
        Some((number, fault)) => Err(Error::Parameter { number, fault: fault.into() }),
        None => Ok(params),
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Integer(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Value {
        Value::Integer(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::Integer(value.into())
    }
}

/// 0 or 1.
impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Integer(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Value {
        Value::Text(value.clone())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Value {
        Value::Blob(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Value {
        Value::Blob(value.to_vec())
    }
}

/// `None` is [`Value::Null`].
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}
