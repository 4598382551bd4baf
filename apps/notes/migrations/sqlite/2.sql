CREATE TABLE revisions (
    id INTEGER PRIMARY KEY,
    note INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    edited TEXT NOT NULL
);
CREATE INDEX revisions_by_note ON revisions (note, id);
INSERT INTO revisions (note, title, body, edited) SELECT id, title, body, edited FROM notes;
