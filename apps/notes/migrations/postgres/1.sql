CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL,
    body text NOT NULL,
    edited text NOT NULL
);
CREATE INDEX notes_by_edited ON notes (edited, id);
