//! Notes, and the SQL they are kept by: the same for both databases.

use gearshift_sql::{Database, Error, Migrations, Value};
use serde::{Deserialize, Serialize};

pub(crate) const MIGRATIONS: Migrations = Migrations {
    sqlite: &[include_str!("../migrations/sqlite/1.sql"), include_str!("../migrations/sqlite/2.sql")],
    postgres: &[include_str!("../migrations/postgres/1.sql"), include_str!("../migrations/postgres/2.sql")],
};

/// At most a hundred, the last edited first.
pub(crate) const SEARCH: &str = r"SELECT id, title, body, edited FROM notes
    WHERE lower(title) LIKE lower($1) ESCAPE '\' OR lower(body) LIKE lower($1) ESCAPE '\'
    ORDER BY edited DESC, id DESC LIMIT 100";
pub(crate) const NOTE: &str = "SELECT id, title, body, edited FROM notes WHERE id = $1";
/// At most a hundred, the last first; none if there is no such note.
pub(crate) const HISTORY: &str = "SELECT note AS id, title, body, edited FROM revisions WHERE note = $1
    ORDER BY revisions.id DESC LIMIT 100";
const ADD: &str = "INSERT INTO notes (title, body, edited) VALUES ($1, $2, $3)
    RETURNING id, title, body, edited";
const EDIT: &str = "UPDATE notes SET title = $1, body = $2, edited = $3 WHERE id = $4
    RETURNING id, title, body, edited";
const KEEP: &str = "INSERT INTO revisions (note, title, body, edited)
    SELECT id, title, body, edited FROM notes WHERE id = $1";
pub(crate) const DELETE: &str = "DELETE FROM notes WHERE id = $1";

/// A note as it is, or as it was.
#[derive(Deserialize, Serialize)]
pub(crate) struct Note {
    pub(crate) id: i64,
    pub(crate) title: String,
    pub(crate) body: String,
    /// In UTC, to the millisecond (RFC 3339).
    pub(crate) edited: String,
}

/// What a note is to say.
#[derive(Deserialize)]
pub(crate) struct Draft {
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) body: String,
}

impl Draft {
    /// Says what is wrong with it, if anything is.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let faults = [
            (self.title.trim().is_empty(), "a note needs a title"),
            (self.title.trim().chars().count() > 200, "a title has at most 200 characters"),
            (self.body.chars().count() > 20_000, "a note has at most 20,000 characters"),
            (self.title.contains('\0') || self.body.contains('\0'), "a note is text, without NUL"),
        ];
        faults.into_iter().find_map(|(found, fault)| found.then_some(fault))
    }
}

/// A pattern of `LIKE` for what contains `text`, letter by letter.
pub(crate) fn containing(text: &str) -> Value {
    format!("%{}%", text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")).into()
}

/// Adds a note, or edits the one with that `id` if there is one, and keeps in its history what it says: both or
/// neither.
pub(crate) async fn save(db: &Database, id: Option<i64>, draft: Draft) -> Result<Option<Note>, Error> {
    let edited = format!("{:.3}", jiff::Timestamp::now()).into();
    let (title, body) = (draft.title.trim().into(), draft.body.into());
    let mut change = db.begin().await?;
    let saved = match id {
        None => change.query::<Note>(ADD, [title, body, edited]).await?.pop(),
        Some(id) => change.query::<Note>(EDIT, [title, body, edited, id.into()]).await?.pop(),
    };
    if let Some(note) = &saved {
        change.execute(KEEP, [note.id.into()]).await?;
        change.commit().await?;
    }
    Ok(saved)
}
