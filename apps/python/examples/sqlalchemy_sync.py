"""Flask and SQLAlchemy's sync engine: a session for each request, which holds its thread while SQLite works.

The environment variable DATABASE_URL names another database.
"""

import os

from flask import Flask, Response, abort, jsonify, request
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

app = Flask(__name__)
engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///notes.db"))


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    def to_dict(self) -> dict[str, int | str]:
        return {"id": self.id, "text": self.text}


Base.metadata.create_all(engine)


@app.post("/notes")
def add() -> tuple[Response, int]:
    with Session(engine) as session, session.begin():
        note = Note(text=request.get_json()["text"])
        session.add(note)
        session.flush()  # The database gives the note its id.
        return jsonify(note.to_dict()), 201


@app.get("/notes")
def all_notes() -> Response:
    with Session(engine) as session:
        return jsonify([note.to_dict() for note in session.scalars(select(Note).order_by(Note.id))])


@app.get("/notes/<int:number>")
def one(number: int) -> Response:
    with Session(engine) as session:
        note = session.get(Note, number) or abort(404)
        return jsonify(note.to_dict())
