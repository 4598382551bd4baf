//! The form of a database, as steps that lead to it from an empty one.

use std::time::Duration;

use crate::Error;

/// How long all that are due may take.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// Steps from an empty database to the form that the program knows.
///
/// They are only ever added to: how many were done stands in the database, and those are not done again. A step may
/// be several statements, separated by semicolons. All that are due are done in one transaction, by one program at a
/// time, within a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Migrations {
    /// For SQLite, which counts them in its `user_version`.
    pub sqlite: &'static [&'static str],
    /// For PostgreSQL, which has them counted in a table called `steps`.
    pub postgres: &'static [&'static str],
}

/// What is still to be done to a database on which `found` of `steps` have been.
pub(crate) fn pending(steps: &'static [&'static str], found: i64) -> Result<&'static [&'static str], Error> {
    let done = usize::try_from(found).ok();
    done.and_then(|done| steps.get(done..)).ok_or(Error::Newer { found, known: steps.len() })
}
