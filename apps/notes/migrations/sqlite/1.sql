CREATE TABLE notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    edited TEXT NOT NULL
);
CREATE INDEX notes_by_edited ON notes (edited, id);
