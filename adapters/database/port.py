"""The database port: one relational schema, reached in transactions."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
Dialect = Literal["sqlite", "postgresql"]


class Database(Protocol):
    """One schema in a relational database, shared by any number of hub processes.

    A transaction is one plain function of a SQLAlchemy `Connection`. It runs off the event loop,
    all at once, so that no transaction is ever held open across an `await`, and it may be run
    again after a conflict: it must have no effect but on the connection.
    """

    @property
    def dialect(self) -> Dialect: ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a read-only snapshot and return its result.

        Raises:
            Unavailable: the database does not answer, is full or stays locked.
        """
        ...

    async def write(self, work: Callable[[Connection], T]) -> T:
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
