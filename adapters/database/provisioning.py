"""Making the PostgreSQL database that a URL names, where it is absent and the user may."""

from urllib.parse import unquote, urlsplit

import asyncpg

from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.postgresql_url import database_of, dsn_of
from mcp_hub.adapters.errors import Denied, Unavailable
from mcp_hub.adapters.urls import without_secret

_MAINTENANCE = "postgres"
_TIMEOUT_S = 30.0
_ABSENT = "3D000"


async def provision(url: str) -> bool:
    """Make the database that `url` names, unless it is there; whether this call made it.

    Any number of processes may do this at once.

    Raises:
        Denied: it is absent, and the user of `url` may not make databases.
        Unavailable: the server cannot be reached, or refuses the user or the password.
        InvalidArgument: `url` is none of PostgreSQL's.
    """
    database = PostgresDatabase(url)
    try:
        await database.check()
    except Unavailable as error:
        if not _says_absent(error):
            raise
    else:
        return False
    finally:
        await database.close()
    return await _create(url)


def _says_absent(error: Unavailable) -> bool:
    """Whether the server answered that there is no such database."""
    reason: BaseException | None = error
    while reason is not None:
        if getattr(reason, "sqlstate", None) == _ABSENT:
            return True
        reason = getattr(reason, "orig", None) or reason.__cause__
    return False


async def _create(url: str) -> bool:
    user = unquote(urlsplit(url).username or "")
    quoted = '"{}"'.format(database_of(url).replace('"', '""'))
    # The other template may be in use, and have another encoding.
    create = f"CREATE DATABASE {quoted} ENCODING 'UTF8' TEMPLATE template0"
    try:
        connection = await asyncpg.connect(dsn_of(url, _MAINTENANCE), timeout=_TIMEOUT_S)
        try:
            await connection.execute(create, timeout=_TIMEOUT_S)
        finally:
            await connection.close()
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        return False  # another process was faster
    except asyncpg.InsufficientPrivilegeError as error:
        owner = f' OWNER "{user}"' if user else ""
        raise Denied(
            f"There is no database {without_secret(url)}, and its user may not make one.",
            f"Have an administrator run: CREATE DATABASE {quoted}{owner};",
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise Unavailable(
            f"The database {without_secret(url)} cannot be made: {error or type(error).__name__}.",
            f"Have an administrator make it: CREATE DATABASE {quoted};",
        ) from error
    return True
