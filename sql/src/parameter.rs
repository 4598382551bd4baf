//! Values as PostgreSQL has them: each to the type of its parameter, or not at all; and back, from the types of
//! columns for which there is a value.

use std::error::Error as StdError;
use std::fmt;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Column, Row, Statement};

use crate::{Error, Value};

/// Whole numbers up to here are exact in a `float4`.
const EXACT_FLOAT4: u64 = 1 << 24;
/// And in a `float8`.
const EXACT_FLOAT8: u64 = 1 << 53;

/// A value for the parameter `$number`.
pub(crate) struct Parameter<'a> {
    number: usize,
    value: &'a Value,
}

/// The parameters of a statement, if they are as many as it has.
pub(crate) fn parameters<'a>(
    statement: &Statement,
    values: &'a [Value],
) -> Result<Vec<Parameter<'a>>, Error> {
    let (wanted, given) = (statement.params().len(), values.len());
    if wanted != given {
        return Err(Error::Parameters { wanted, given });
    }
    Ok(values.iter().zip(1..).map(|(value, number)| Parameter { number, value }).collect())
}

/// Without the value: this is what tokio-postgres logs.
impl fmt::Debug for Parameter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.number)
    }
}

impl Parameter<'_> {
    fn misfit(&self, kind: &Type) -> Error {
        let what = match self.value {
            Value::Null => "null".to_owned(),
            Value::Integer(n) => format!("the integer {n}"),
            Value::Real(x) => format!("the real number {x}"),
            Value::Text(_) => "text".to_owned(),
            Value::Blob(_) => "bytes".to_owned(),
        };
        let fault = format!("{what} does not fit the type {kind}, or needs a cast there");
        Error::Parameter { number: self.number, fault }
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let written = match (self.value, kind) {
            (Value::Null, _) => Some(Ok(IsNull::Yes)),
            (Value::Integer(n @ (0 | 1)), &Type::BOOL) => Some((*n == 1).to_sql(kind, out)),
            (Value::Integer(n), &Type::INT2) => i16::try_from(*n).ok().map(|n| n.to_sql(kind, out)),
            (Value::Integer(n), &Type::INT4) => i32::try_from(*n).ok().map(|n| n.to_sql(kind, out)),
            (Value::Integer(n), &Type::INT8) => Some(n.to_sql(kind, out)),
            (Value::Integer(n), &Type::FLOAT4) if n.unsigned_abs() <= EXACT_FLOAT4 => {
                Some((*n as f32).to_sql(kind, out))
            }
            (Value::Integer(n), &Type::FLOAT8) if n.unsigned_abs() <= EXACT_FLOAT8 => {
                Some((*n as f64).to_sql(kind, out))
            }
            // Rounded, as whoever made it a `float4` wants it; but not to infinity.
            (Value::Real(x), &Type::FLOAT4) if x.is_infinite() || (*x as f32).is_finite() => {
                Some((*x as f32).to_sql(kind, out))
            }
            (Value::Real(x), &Type::FLOAT8) => Some(x.to_sql(kind, out)),
            (Value::Text(text), kind) if <&str as ToSql>::accepts(kind) => Some(text.to_sql(kind, out)),
            (Value::Blob(bytes), &Type::BYTEA) => Some(bytes.to_sql(kind, out)),
            _ => None,
        };
        written.unwrap_or_else(|| Err(Box::new(self.misfit(kind))))
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Refuses a column of a type for which there is no value.
pub(crate) fn refuse_column(column: &Column) -> Result<(), Error> {
    let kind = column.type_();
    if Any::accepts(kind) {
        return Ok(());
    }
    let fault = format!("there is no value of type {kind}; cast it to text or to a number");
    Err(Error::Column { name: column.name().to_owned(), fault })
}

/// A column of a row that was not refused.
pub(crate) fn value(row: &Row, place: usize) -> Result<Value, Error> {
    let value = row.try_get::<_, Option<Any>>(place)?;
    Ok(value.map_or(Value::Null, |Any(value)| value))
}

/// A value that is not null.
struct Any(Value);

impl FromSql<'_> for Any {
    fn from_sql(kind: &Type, raw: &[u8]) -> Result<Any, Box<dyn StdError + Sync + Send>> {
        Ok(Any(match *kind {
            Type::BOOL => bool::from_sql(kind, raw)?.into(),
            Type::INT2 => Value::Integer(i16::from_sql(kind, raw)?.into()),
            Type::INT4 => i32::from_sql(kind, raw)?.into(),
            Type::INT8 => i64::from_sql(kind, raw)?.into(),
            Type::FLOAT4 => Value::Real(f32::from_sql(kind, raw)?.into()),
            Type::FLOAT8 => f64::from_sql(kind, raw)?.into(),
            Type::BYTEA => raw.into(),
            _ => String::from_sql(kind, raw)?.into(),
        }))
    }

    fn accepts(kind: &Type) -> bool {
        let known = [Type::BOOL, Type::INT2, Type::INT4, Type::INT8, Type::FLOAT4, Type::FLOAT8, Type::BYTEA];
        known.contains(kind) || <String as FromSql<'_>>::accepts(kind)
    }
}
