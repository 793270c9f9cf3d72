"""The database port: one relational schema, reached in transactions."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
Dialect = Literal["sqlite", "postgresql"]


class Database(Protocol):
    """One schema in a relational database, shared by any number of hub processes.

    A transaction is one plain function of a SQLAlchemy `Connection`, so that none is held open
    across a caller's `await`. It may be run again, after a conflict or on a new connection: it
    must have no effect but on the connection. It may run on the event loop, which turns only
    while it waits for the database: it must not wait for anything else, nor compute for long.

    Transactions, reads included, are serializable: what they do and see is as if they had run
    one after another. So a decision may rest on what the same transaction read before, without
    locks, and rows are numbered without gaps; an update is never lost.

    With `one_statement`, `work` executes a single statement that needs none of this: it is
    atomic, sees what is committed when it begins, and is one round trip instead of three. What
    such statements write must not be written, nor decided upon, in transactions of the other kind.
    """

    @property
    def dialect(self) -> Dialect: ...

    async def read(self, work: Callable[[Connection], T], *, one_statement: bool = False) -> T:
        """Run `work` in a read-only snapshot and return its result.

        Raises:
            Unavailable: the database does not answer, is full or stays locked.
        """
        ...

    async def write(self, work: Callable[[Connection], T], *, one_statement: bool = False) -> T:
        """Run `work` in a write transaction; when this returns, its effect is committed.

        An exception raised by `work` rolls the transaction back and is raised here. A caller that
        is cancelled meanwhile cannot know which: the transaction happens whole or not at all.

        Raises:
            sqlalchemy.exc.IntegrityError: the transaction breaks a constraint of the schema.
            Unavailable: the database does not answer, is full or stays locked.
        """
        ...

    async def upgrade(self) -> list[str]:
        """Bring the schema to this program's revision, under a lock; the revisions applied.

        Raises:
            Conflict: the schema is newer than this program.
        """
        ...

    async def check(self) -> str:
        """Make one round trip; the server's name and version.

        Raises:
            Unavailable: the database does not answer.
        """
        ...

    async def close(self) -> None: ...
