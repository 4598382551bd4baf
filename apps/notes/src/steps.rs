//! The form of the database, as steps that lead to it from an empty one. They are only ever added to; how many were
//! done stands in the database.

use crate::store::StoreError;

pub(crate) const SQLITE: &[&str] = &[
    "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, body TEXT NOT NULL,
         edited INTEGER NOT NULL);
     CREATE INDEX notes_by_edited ON notes (edited, id);",
    "CREATE TABLE revisions (id INTEGER PRIMARY KEY, note INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE,
         title TEXT NOT NULL, body TEXT NOT NULL, edited INTEGER NOT NULL);
     CREATE INDEX revisions_by_note ON revisions (note, id);
     INSERT INTO revisions (note, title, body, edited) SELECT id, title, body, edited FROM notes;",
];

pub(crate) const POSTGRES: &[&str] = &[
    "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL,
         body text NOT NULL, edited bigint NOT NULL);
     CREATE INDEX notes_by_edited ON notes (edited, id);",
    "CREATE TABLE revisions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         note bigint NOT NULL REFERENCES notes ON DELETE CASCADE, title text NOT NULL, body text NOT NULL,
         edited bigint NOT NULL);
     CREATE INDEX revisions_by_note ON revisions (note, id);
     INSERT INTO revisions (note, title, body, edited) SELECT id, title, body, edited FROM notes;",
];

/// What is still to be done to a database on which `done` of `steps` have been.
pub(crate) fn pending(
    steps: &'static [&'static str],
    done: i64,
) -> Result<&'static [&'static str], StoreError> {
    usize::try_from(done).ok().and_then(|done| steps.get(done..)).ok_or_else(|| {
        StoreError::Failed(format!("it has version {done}, this program knows {}", steps.len()).into())
    })
}
