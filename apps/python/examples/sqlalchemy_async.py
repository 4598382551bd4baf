"""FastAPI and SQLAlchemy's async engine: a session for each request, an engine that the lifespan makes and disposes of.

The environment variable DATABASE_URL names another database.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class NewNote(BaseModel):
    text: str


class StoredNote(NewNote):
    model_config = ConfigDict(from_attributes=True)

    id: int


class State(TypedDict):
    """What the start of the application makes for its requests."""

    sessions: async_sessionmaker[AsyncSession]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///notes.db"))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield {"sessions": async_sessionmaker(engine, expire_on_commit=False)}
    finally:
        await engine.dispose()


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.state.sessions() as session:
        yield session


app = FastAPI(lifespan=lifespan)
RequestSession = Annotated[AsyncSession, Depends(open_session)]


@app.post("/notes", status_code=201, response_model=StoredNote)
async def add(new: NewNote, session: RequestSession) -> Note:
    note = Note(text=new.text)
    session.add(note)
    await session.commit()
    return note


@app.get("/notes", response_model=list[StoredNote])
async def all_notes(session: RequestSession) -> list[Note]:
    return list(await session.scalars(select(Note).order_by(Note.id)))


@app.get("/notes/{number}", response_model=StoredNote)
async def one(number: int, session: RequestSession) -> Note:
    if note := await session.get(Note, number):
        return note
    raise HTTPException(404)
