//! One small, strict interface over SQLite and PostgreSQL, the same on every gearshift backend.
//!
//! ```
//! use gearshift_core::Runtime;
//! use gearshift_sql::{Database, Error, Migrations, Options};
//!
//! const MIGRATIONS: Migrations = Migrations {
//!     sqlite: &["CREATE TABLE tasks (id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL) STRICT"],
//!     postgres: &["CREATE TABLE tasks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL,
//!         done boolean NOT NULL)"],
//! };
//!
//! #[derive(serde::Deserialize)]
//! struct Task {
//!     id: i64,
//!     title: String,
//!     done: bool,
//! }
//!
//! async fn open(runtime: &Runtime) -> Result<Database, Error> {
//!     // Or "postgres://user@localhost/tasks".
//!     Database::open(runtime, "tasks.db", MIGRATIONS, Options::default()).await
//! }
//!
//! async fn undone(tasks: &Database) -> Result<Vec<Task>, Error> {
//!     tasks.query("SELECT id, title, done FROM tasks WHERE done = $1", [false.into()]).await
//! }
//!
//! async fn add(tasks: &Database, title: &str) -> Result<i64, Error> {
//!     let mut change = tasks.begin().await?;
//!     let add = "INSERT INTO tasks (title, done) VALUES ($1, $2) RETURNING id";
//!     let ids: Vec<i64> = change.query(add, [title.into(), false.into()]).await?;
//!     change.commit().await?;
//!     Ok(ids[0])
//! }
//!
//! async fn clear(tasks: &Database) -> Result<u64, Error> {
//!     tasks.execute("DELETE FROM tasks", []).await
//! }
//! ```
//!
//! SQL is written once for both, and says the same to both:
//!
//! * Parameters are `$1`, `$2` and so on, each of which stands at least once.
//! * A call is one statement, and none that begins or ends a transaction. It is prepared once for each connection, which keeps at most [`STATEMENTS`] of them.
//! * [`Database::query`] reads, [`Database::execute`] changes, a [`Transaction`] does both; what is asked of the wrong
//!   one is an error on both databases.
//! * A value that does not fit is an error, never another value. SQLite sees to that for columns only in tables that
//!   are `STRICT`.
//! * A [`Transaction`] in which a statement has failed is over.
//!
//! What a call may cost is bounded by the [`Options`]: connections, waits and rows.

// With neither database there is nobody to use what both need.
#![cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(dead_code))]

mod database;
mod error;
#[cfg(feature = "sqlite")]
mod file;
mod migrations;
#[cfg(feature = "postgres")]
mod parameter;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod row;
#[cfg(feature = "postgres")]
mod server;
#[cfg(feature = "postgres")]
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod statement;
mod value;

pub use database::{Database, Options, Transaction};
pub use error::Error;
pub use migrations::Migrations;
pub use value::Value;

/// Statements that a connection keeps prepared; more are prepared anew, now and then.
pub const STATEMENTS: usize = 100;
