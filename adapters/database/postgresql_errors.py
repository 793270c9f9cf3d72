"""What asyncpg's exceptions mean for a transaction, and what to do about them."""

import socket
import ssl
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi as _Driver
from sqlalchemy.exc import DBAPIError, IntegrityError

_CHECK_SERVER = "Check that the server runs and that database_url names it."
_TRY_AGAIN = "Try again; if it stays so, check that the server runs."


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a transaction failed, when that is no fault of its statements.

    conflict: the server ended it because of others, and it may be run again.
    lost: there is no connection, but perhaps there will soon be one.
    unsent: so too, and nothing of the last statement has left this process.
    value: what is to be written does not fit its column.
    refused: only somebody who changes the settings or the server can help.
    """

    kind: Literal["conflict", "lost", "unsent", "value", "refused"]
    hint: str


_BY_CODE = {
    "08": Failure("lost", _TRY_AGAIN),
    "08P01": Failure("refused", "Connect to PostgreSQL itself, or to a pool in session mode."),
    "22": Failure("value", "Give a shorter or another value."),
    "25006": Failure("refused", "The server is read-only: connect to the primary."),
    "25P03": Failure("lost", "The hub was stopped in the middle of a transaction; try again."),
    "28": Failure("refused", "Check the user and the password in database_url."),
    "3D": Failure(
        "refused", "Check the database's name in database_url, or let `mcp-hub up` make it."
    ),
    "40001": Failure("conflict", "Others change the same all the time; try again."),
    "40P01": Failure("conflict", "Others change the same all the time; try again."),
    "42501": Failure(
        "refused", "Grant the user what it lacks, or run `mcp-hub up` as the database's owner."
    ),
    "53": Failure("refused", "The server lacks disk space or memory; give it more."),
    "53300": Failure("lost", "Raise the server's max_connections, or run fewer hub processes."),
    "55P03": Failure("refused", "Another program keeps it locked; try again when that has ended."),
    "57014": Failure("refused", "The statement took too long; try again when the server is idle."),
    "57P": Failure("lost", _TRY_AGAIN),
    "58": Failure("refused", "The server cannot read or write its files; see its log."),
    "XX": Failure("refused", "The server found damaged data or a fault of its own; see its log."),
}
"""By SQLSTATE, or the beginning of one: the longest that fits counts."""


def failure_of(error: DBAPIError | OSError) -> Failure | None:
    """What `error` means; None if it is the fault of a statement, such as a broken constraint."""
    if isinstance(error, OSError):
        return _of_connecting(error)
    if isinstance(error, IntegrityError):
        return None
    if isinstance(error.orig, _Driver.InvalidCachedStatementError):
        return Failure("conflict", "The schema was changed meanwhile; try again.")
    if isinstance(error.orig, _Driver.InternalClientError | _Driver.InterfaceError) and (
        "connection is closed" in str(error.orig) or "cannot switch to state" in str(error.orig)
    ):
        return Failure("unsent", _TRY_AGAIN)
    code: str = getattr(error.orig, "sqlstate", None) or ""
    for length in (5, 3, 2):
        if (failure := _BY_CODE.get(code[:length])) is not None:
            return failure
    return Failure("lost", _TRY_AGAIN) if error.connection_invalidated else None


def reason_of(error: DBAPIError | OSError) -> str:
    """What the driver says, in one line and without its own names."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    # SQLAlchemy puts asyncpg's class before its words.
    line = said.rpartition(">: ")[2].strip().split("\n")[0].rstrip(".")
    return line or type(error).__name__


def _of_connecting(error: OSError) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "Renew the server's certificate, or name its authority by sslrootcert."
        return Failure("refused", f"{hint} Both are options of database_url's TLS.")
    if isinstance(error, ssl.SSLError):
        return Failure("refused", "Check sslmode and the certificates in database_url.")
    if isinstance(error, socket.gaierror):
        return Failure("refused", "Check the host's name in database_url.")
    if "SSL upgrade" in str(error):
        return Failure("refused", "Turn on the server's ssl, or use another sslmode.")
    return Failure("lost", _CHECK_SERVER)
