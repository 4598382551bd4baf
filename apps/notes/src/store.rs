//! What the application asks of a database, whichever it is, and the SQL that both understand: placeholders are
//! numbered in the order in which they first stand, as SQLite counts them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gearshift::{BoxError, BoxFuture, Runtime, StatusCode};

use crate::postgres::Postgres;
use crate::sqlite::Sqlite;

/// Connections that are open at once, whoever asks.
pub(crate) const CONNECTIONS: usize = 10;
/// How long a request waits for one of them, or for a new one to be made.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const SEARCH: &str = r"SELECT id, title, body, edited FROM notes
    WHERE lower(title) LIKE lower($1) ESCAPE '\' OR lower(body) LIKE lower($1) ESCAPE '\'
    ORDER BY edited DESC, id DESC LIMIT 100";
pub(crate) const NOTE: &str = "SELECT id, title, body, edited FROM notes WHERE id = $1";
pub(crate) const HISTORY: &str =
    "SELECT note, title, body, edited FROM revisions WHERE note = $1 ORDER BY id DESC LIMIT 100";
pub(crate) const ADD: &str = "INSERT INTO notes (title, body, edited) VALUES ($1, $2, $3) RETURNING id";
pub(crate) const EDIT: &str = "UPDATE notes SET title = $1, body = $2, edited = $3 WHERE id = $4";
pub(crate) const KEEP: &str = "INSERT INTO revisions (title, body, edited, note) VALUES ($1, $2, $3, $4)";
pub(crate) const DELETE: &str = "DELETE FROM notes WHERE id = $1";

/// All of them, for a connection that prepares what it will be asked.
pub(crate) const STATEMENTS: [&str; 7] = [SEARCH, NOTE, HISTORY, ADD, EDIT, KEEP, DELETE];

/// A note as it is, or as it was.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Note {
    pub(crate) id: i64,
    pub(crate) title: String,
    pub(crate) body: String,
    /// In seconds since 1970.
    pub(crate) edited: i64,
}

/// What a note is to say.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(crate) struct Draft {
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) body: String,
}

impl Draft {
    /// Says what is wrong with it, if anything is.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.title.trim().is_empty() {
            Some("a note needs a title")
        } else if self.title.chars().count() > 200 {
            Some("a title has at most 200 characters")
        } else if self.body.chars().count() > 20_000 {
            Some("a note has at most 20,000 characters")
        } else if self.title.contains('\0') || self.body.contains('\0') {
            Some("a note is text, without NUL")
        } else {
            None
        }
    }

    /// The note this becomes, now.
    pub(crate) fn note(self, id: i64) -> Note {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Note { id, title: self.title, body: self.body, edited: since.as_secs().cast_signed() }
    }
}

/// A pattern of `LIKE` for what contains `text`, letter by letter.
pub(crate) fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.chars() {
        if matches!(letter, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern + "%"
}

pub(crate) type Answer<T> = BoxFuture<Result<T, StoreError>>;

/// A database of notes. A change and its entry in the history are made in one transaction.
pub(crate) trait Store: Send + Sync {
    /// The notes that contain `text`, at most a hundred, the last edited first.
    fn search(&self, text: &str) -> Answer<Vec<Note>>;
    fn note(&self, id: i64) -> Answer<Option<Note>>;
    /// What a note has said so far, at most a hundred times, the last first.
    fn history(&self, id: i64) -> Answer<Vec<Note>>;
    fn add(&self, draft: Draft) -> Answer<Note>;
    /// `None` if there is no such note.
    fn edit(&self, id: i64, draft: Draft) -> Answer<Option<Note>>;
    /// Whether there was such a note.
    fn delete(&self, id: i64) -> Answer<bool>;
    /// Lets the connections go, those in use when they are given back.
    fn close(&self);
}

/// Opens the database and brings it to the form that this program knows: a URL is PostgreSQL's, anything else is a
/// file of SQLite.
pub(crate) async fn open(runtime: Runtime, database: &str) -> Result<Arc<dyn Store>, BoxError> {
    if database.starts_with("postgres://") || database.starts_with("postgresql://") {
        Ok(Arc::new(Postgres::open(runtime, database).await?))
    } else {
        Ok(Arc::new(Sqlite::open(runtime, database).await?))
    }
}

/// Why the database did not answer.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// Every connection stayed in use.
    Busy,
    /// It is not there now; it may be back soon.
    Away(BoxError),
    /// It refuses what it was asked, or cannot do it.
    Failed(BoxError),
}

impl StoreError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            StoreError::Busy | StoreError::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Busy => write!(f, "no connection to the database was free within {PATIENCE:?}"),
            StoreError::Away(error) => write!(f, "the database is away: {error}"),
            StoreError::Failed(error) => write!(f, "the database: {error}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Busy => None,
            StoreError::Away(error) | StoreError::Failed(error) => Some(&**error),
        }
    }
}
