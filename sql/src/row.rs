//! Rows, read by serde: by the names of their columns into structs and maps, by position into tuples and sequences,
//! and one that has one column into whatever that is.

use std::fmt;
use std::sync::Arc;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::{Error, Value};

/// What a statement gave.
pub(crate) struct Rows {
    pub(crate) names: Arc<[String]>,
    /// Each has a value for each name.
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Rows {
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<Vec<T>, Error> {
        let Rows { names, rows } = self;
        rows.into_iter()
            .map(|values| T::deserialize(Row { names: &names, values }).map_err(Error::from))
            .collect()
    }
}

/// What does not have the form that is wanted: a column, or the row as a whole.
#[derive(Debug)]
struct Misfit {
    column: Option<String>,
    fault: String,
}

impl Misfit {
    fn at(mut self, column: &str) -> Misfit {
        self.column.get_or_insert_with(|| column.to_owned());
        self
    }
}

impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(fault: T) -> Misfit {
        Misfit { column: None, fault: fault.to_string() }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault)
    }
}

impl std::error::Error for Misfit {}

impl From<Misfit> for Error {
    fn from(Misfit { column, fault }: Misfit) -> Error {
        match column {
            Some(name) => Error::Column { name, fault },
            None => Error::Row(fault),
        }
    }
}

struct Row<'a> {
    names: &'a [String],
    values: Vec<Value>,
}

impl<'a> Row<'a> {
    fn columns(self) -> impl Iterator<Item = Column<'a>> {
        self.names.iter().zip(self.values).map(|(name, value)| Column { name, value })
    }

    /// The one column that the row has.
    fn column(self) -> Result<Column<'a>, Misfit> {
        let found = self.values.len();
        let mut columns = self.columns();
        match (columns.next(), columns.next()) {
            (Some(column), None) => Ok(column),
            _ => Err(Misfit::custom(format_args!("it has {found} columns where one is wanted"))),
        }
    }
}

/// Has what wants one value read the one column.
macro_rules! by_column {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.column()?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Row<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_map(MapDeserializer::new(self.columns().map(|column| (column.name, column))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let mut columns = SeqDeserializer::new(self.columns());
        let read = visitor.visit_seq(&mut columns)?;
        columns.end()?;
        Ok(read)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.column()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    by_column! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_option deserialize_unit deserialize_identifier
    }
}

struct Column<'a> {
    name: &'a str,
    value: Value,
}

impl<'de> IntoDeserializer<'de, Misfit> for Column<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Column<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Real(number) => visitor.visit_f64(number),
            Value::Text(text) => visitor.visit_string(text),
            Value::Blob(bytes) => visitor.visit_byte_buf(bytes),
        }
        .map_err(|misfit: Misfit| misfit.at(self.name))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Integer(0) => visitor.visit_bool(false),
            Value::Integer(1) => visitor.visit_bool(true),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A `Vec<u8>` is a sequence to serde.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Blob(bytes) => visitor
                .visit_seq(SeqDeserializer::new(bytes.into_iter()))
                .map_err(|misfit: Misfit| misfit.at(self.name)),
            _ => self.deserialize_any(visitor),
        }
    }

    /// A variant is its name.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Text(text) => text
                .into_deserializer()
                .deserialize_enum(name, variants, visitor)
                .map_err(|misfit: Misfit| misfit.at(self.name)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct map struct identifier ignored_any
    }
}
