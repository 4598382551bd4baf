//! Why a database did not do what it was asked, and what a peer is told of that.

use std::error::Error as StdError;
use std::fmt;

use gearshift_core::{BoxError, IntoResponse, Refusal, Response, StatusCode};

/// What went wrong. It happened to a whole statement: one that failed has changed nothing, and the
/// [`Transaction`](crate::Transaction) that it belonged to was rolled back.
///
/// The exception is in the nature of things: whoever asked for a change, or for a commit, and hears
/// [`Away`](Error::Away), cannot know whether the database had done it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Every connection, or the lock that a change needs, stayed in use. Trying again may help.
    Busy(BoxError),
    /// The database is not there, or did not answer in time; it may be back soon.
    Away(BoxError),
    /// A constraint refuses the change: something is there already, or is missing, or is not as it should be.
    Refused(BoxError),
    /// The database refuses what it was asked, or cannot do it.
    Failed(BoxError),
    /// There are more rows than [`Options::most_rows`](crate::Options::most_rows), which this is.
    Rows(usize),
    /// The statement has so many parameters, numbered from `$1`, and was given so many.
    Parameters {
        /// How many it has.
        wanted: usize,
        /// How many it was given.
        given: usize,
    },
    /// A value does not fit the parameter `$number`.
    Parameter {
        /// Which one, from 1.
        number: usize,
        /// Why not.
        fault: String,
    },
    /// A column has a type for which there is no [`Value`](crate::Value), or is not what the program wants there.
    Column {
        /// What the column is called in the result.
        name: String,
        /// What is the matter.
        fault: String,
    },
    /// A row as a whole does not have the form that the program wants.
    Row(String),
    /// A statement that changes something was asked of [`Database::query`](crate::Database::query), which only reads.
    Changes,
    /// A statement that gives rows was asked of an `execute`, which would lose them.
    GivesRows,
    /// The transaction was rolled back before: one of its statements failed, or was not waited for.
    RolledBack,
    /// The database was brought further than this program knows, by a newer one. It is left alone.
    Newer {
        /// How many steps the database has behind it.
        found: i64,
        /// How many the program knows.
        known: usize,
    },
    /// The feature that this kind of database needs is not compiled in.
    NotCompiledIn(&'static str),
}

impl Error {
    /// What a peer is told, as it is none of its fault: 503 for [`Busy`](Error::Busy) and [`Away`](Error::Away), else
    /// 500.
    pub fn status(&self) -> StatusCode {
        match self {
            Error::Busy(_) | Error::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Busy(error) => write!(f, "the database is busy: {error}"),
            Error::Away(error) => write!(f, "the database is away: {error}"),
            Error::Refused(error) => write!(f, "a constraint of the database: {error}"),
            Error::Failed(error) => write!(f, "the database: {error}"),
            Error::Rows(most) => write!(f, "the database has more than {most} rows to give"),
            Error::Parameters { wanted, given } => {
                write!(f, "the statement has {wanted} parameters, numbered from $1, and was given {given}")
            }
            Error::Parameter { number, fault } => write!(f, "the parameter ${number}: {fault}"),
            Error::Column { name, fault } => write!(f, "the column \"{name}\": {fault}"),
            Error::Row(fault) => write!(f, "a row: {fault}"),
            Error::Changes => f.write_str("only a transaction or `execute` may change something"),
            Error::GivesRows => f.write_str("a statement that gives rows is for `query`"),
            Error::RolledBack => f.write_str("the transaction was rolled back before"),
            Error::Newer { found, known } => {
                write!(f, "the database has version {found}, this program knows {known}")
            }
            Error::NotCompiledIn(feature) => write!(f, "the feature `{feature}` is not compiled in"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Busy(error) | Error::Away(error) | Error::Refused(error) | Error::Failed(error) => {
                Some(&**error)
            }
            _ => None,
        }
    }
}

/// What went wrong goes to the log, not to the peer, who is told whether to try again.
impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        log::error!("a handler failed: {error}");
        let status = error.status();
        let why = if status == StatusCode::SERVICE_UNAVAILABLE { "try again in a moment" } else { "sorry" };
        Refusal::new(status, why)
    }
}

/// As a [`Refusal`].
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Refusal::from(self).into_response()
    }
}
