CREATE TABLE revisions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    note bigint NOT NULL REFERENCES notes ON DELETE CASCADE,
    title text NOT NULL,
    body text NOT NULL,
    edited text NOT NULL
);
CREATE INDEX revisions_by_note ON revisions (note, id);
INSERT INTO revisions (note, title, body, edited) SELECT id, title, body, edited FROM notes;
