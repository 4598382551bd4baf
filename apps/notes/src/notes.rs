//! Notes: what one is, which drafts are accepted, and the SQL that both databases run.

use serde::{Deserialize, Serialize};

/// Notes whose title or text matches a `LIKE` pattern, the last edited first, at most 100.
pub(crate) const SEARCH: &str = r"SELECT id, title, body, edited FROM notes
    WHERE lower(title) LIKE lower($1) ESCAPE '\' OR lower(body) LIKE lower($1) ESCAPE '\'
    ORDER BY edited DESC, id DESC LIMIT 100";
pub(crate) const NOTE: &str = "SELECT id, title, body, edited FROM notes WHERE id = $1";
/// Revisions of a note, the latest first, at most 100. A note that exists has at least one.
pub(crate) const HISTORY: &str = "SELECT note AS id, title, body, edited FROM revisions WHERE note = $1
    ORDER BY revisions.id DESC LIMIT 100";
pub(crate) const ADD: &str = "INSERT INTO notes (title, body, edited) VALUES ($1, $2, $3)
    RETURNING id, title, body, edited";
pub(crate) const EDIT: &str = "UPDATE notes SET title = $1, body = $2, edited = $3 WHERE id = $4
    RETURNING id, title, body, edited";
/// Copies a note, as it is now, into its history.
pub(crate) const KEEP: &str = "INSERT INTO revisions (note, title, body, edited)
    SELECT id, title, body, edited FROM notes WHERE id = $1";
pub(crate) const DELETE: &str = "DELETE FROM notes WHERE id = $1";

/// A note, or one revision of it.
#[derive(Serialize)]
pub(crate) struct Note {
    pub(crate) id: i64,
    pub(crate) title: String,
    pub(crate) body: String,
    /// The time of the edit in UTC, to the millisecond (RFC 3339).
    pub(crate) edited: String,
}

/// A note as a peer sends it.
#[derive(Deserialize)]
pub(crate) struct Draft {
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) body: String,
}

impl Draft {
    /// Returns the first rule that the draft breaks, as text for the peer.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let faults = [
            (self.title.trim().is_empty(), "a note needs a title"),
            (self.title.trim().chars().count() > 200, "a title has at most 200 characters"),
            (self.body.chars().count() > 20_000, "a note has at most 20,000 characters"),
            // PostgreSQL does not store it.
            (self.title.contains('\0') || self.body.contains('\0'), "a note is text, without NUL"),
        ];
        faults.into_iter().find_map(|(found, fault)| found.then_some(fault))
    }
}

/// Returns a `LIKE` pattern for text that contains `text`.
pub(crate) fn containing(text: &str) -> String {
    format!("%{}%", text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_"))
}

/// Returns the current time as [`Note::edited`] has it.
pub(crate) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
