//! Statements of SQLite: what a job does with its connection.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql};

use crate::row::Rows;
use crate::{Error, Value};

/// What a statement gives that only reads.
pub(crate) fn read(file: &Connection, sql: &str, params: &[Value], most: usize) -> Result<Rows, Error> {
    if file.prepare_cached(sql)?.readonly() { fetch(file, sql, params, most) } else { Err(Error::Changes) }
}

/// What a statement gives.
pub(crate) fn fetch(file: &Connection, sql: &str, params: &[Value], most: usize) -> Result<Rows, Error> {
    let mut statement = prepare(file, sql, params)?;
    let names: Vec<_> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut cursor = statement.raw_query();
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        if rows.len() == most {
            return Err(Error::Rows(most));
        }
        let values = names.iter().enumerate().map(|(place, name)| value(name, row.get_ref(place)?));
        rows.push(values.collect::<Result<_, _>>()?);
    }
    Ok(Rows { names: names.into(), rows })
}

/// Runs a statement that gives nothing, and says how many rows it has changed.
pub(crate) fn execute(file: &Connection, sql: &str, params: &[Value]) -> Result<u64, Error> {
    let mut statement = prepare(file, sql, params)?;
    if statement.column_count() > 0 {
        return Err(Error::GivesRows);
    }
    // A statement that is not about rows leaves the number of the one before it.
    let before = file.total_changes();
    let changed = statement.raw_execute()?;
    Ok(if file.total_changes() == before { 0 } else { changed as u64 })
}

/// Takes the lock of a writer; it may wait for another program.
pub(crate) fn begin(file: &Connection) -> Result<(), Error> {
    Ok(file.prepare_cached("BEGIN IMMEDIATE")?.raw_execute().map(drop)?)
}

pub(crate) fn commit(file: &Connection) -> Result<(), Error> {
    Ok(file.prepare_cached("COMMIT")?.raw_execute().map(drop)?)
}

/// A statement with its parameters, each under its number: SQLite takes `$1` for a name.
fn prepare<'a>(file: &'a Connection, sql: &str, params: &[Value]) -> Result<CachedStatement<'a>, Error> {
    let mut statement = file.prepare_cached(sql)?;
    let wanted = statement.parameter_count();
    let fault = Error::Parameters { wanted, given: params.len() };
    for place in 1..=wanted {
        let number = statement.parameter_name(place).and_then(|name| name.strip_prefix('$')?.parse().ok());
        let value = number.and_then(|number: usize| params.get(number.checked_sub(1)?));
        let Some(value) = value else { return Err(fault) };
        statement.raw_bind_parameter(place, value)?;
    }
    if wanted == params.len() { Ok(statement) } else { Err(fault) }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(column: &str, value: ValueRef<'_>) -> Result<Value, Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => match String::from_utf8(text.to_vec()) {
            Ok(text) => Value::Text(text),
            Err(error) => return Err(Error::Column { name: column.to_owned(), fault: error.to_string() }),
        },
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy(error.into()),
            Some(ErrorCode::OperationInterrupted) => Error::Away("it did not answer in time".into()),
            Some(ErrorCode::ConstraintViolation) => Error::Refused(error.into()),
            _ => Error::Failed(error.into()),
        }
    }
}
