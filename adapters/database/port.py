"""The database port: one relational schema, reached in transactions."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar, runtime_checkable

from sqlalchemy import Connection

T = TypeVar("T")
Dialect = Literal["sqlite", "postgresql"]


class Database(Protocol):
    """One schema in a relational database, shared by any number of hub processes.

    A transaction is one plain function of a SQLAlchemy `Connection`, so that none is held open
    across a caller's `await`. It may be run again, after a conflict or on a new connection: it
    must have no effect but on the connection. It may run on the event loop, which turns only
    while it waits for the database: it must not wait for anything else, nor compute for long.

    A transaction sees one snapshot, and of two that change the same row at the same time one is
    run again, on what the other committed: no update is lost, and what is read from a row and
    written back to it counts without gaps. That holds for the rows that a transaction changes.
    What it only reads may change before it commits: to decide upon such a row, `touch` it. An
    insert that meets a key which the snapshot does not show is an IntegrityError; where it says
    `on_conflict_do_nothing`, the transaction is run again.

    With `one_statement`, `work` executes one statement and nothing else. It sees what is
    committed when it begins, waits for rows that others are changing instead of being run again,
    and is one round trip instead of three.
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

    async def migrate(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which changes the schema, in a write transaction under the same lock.

        It happens whole or not at all: what a killed process had done of it is rolled back. It
        may take an hour, and so may the wait for another process's.
        """
        ...

    async def check(self) -> str:
        """Make one round trip; the server's name and version.

        Raises:
            Unavailable: the database does not answer.
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Versioned(Protocol):
    """A database that can tell without a round trip whether anything was committed to it."""

    async def version(self) -> int | None:
        """A number that stays as long as nobody, in whichever process, commits anything.

        What was read after it was asked for is still true while it is the same. None where it
        cannot be told just now.

        Raises:
            Unavailable: the database cannot be opened.
        """
        ...
