"""PostgreSQL's URLs, as libpq takes them, for asyncpg."""

from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.urls import without_secret

_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_DATABASE = ("dbname", "database")
_LIBPQ_ONLY = (
    "channel_binding", "connect_timeout", "gssencmode", "keepalives", "keepalives_count",
    "keepalives_idle", "keepalives_interval", "load_balance_hosts", "tcp_user_timeout",
)  # fmt: skip
"""Options that asyncpg would take for the server's."""


def dsn_of(url: str, database: str | None = None) -> str:
    """`url` as asyncpg takes it; to `database` instead of its own, where one is given.

    Raises:
        InvalidArgument: it is no URL of a PostgreSQL database.
    """
    database = database or database_of(url)
    parts = urlsplit(url)
    left_out = (*_DATABASE, *_LIBPQ_ONLY)
    options = [(key, value) for key, value in parse_qsl(parts.query) if key not in left_out]
    path = f"/{quote(database, safe='')}"
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql://{parts.netloc}{path}{query}"


def database_of(url: str) -> str:
    """The name of the database. Raises InvalidArgument as `dsn_of` does."""
    parts = _parse(url)
    given = dict(parse_qsl(parts.query))
    names = [unquote(parts.path.removeprefix("/")), *(given.get(key, "") for key in _DATABASE)]
    name = next(filter(None, names), None)
    if name is None:
        raise InvalidArgument(
            f"{without_secret(url)} names no database.",
            "Write postgresql://USER:PASSWORD@HOST:5432/DATABASE.",
        )
    return name


def settings_of(url: str, statement_timeout_s: float) -> dict[str, str]:
    """The settings that a connection begins with, but for those that `url` gives itself."""
    milliseconds = str(round(statement_timeout_s * 1000))
    settings = {
        "application_name": "mcp-hub",
        "statement_timeout": milliseconds,
        # A hub that is stopped in the middle of a transaction must not block the others.
        "idle_in_transaction_session_timeout": milliseconds,
        # Keeps routers on the way from forgetting an idle connection without a word.
        "tcp_keepalives_idle": "60",
        "timezone": "UTC",
    }
    given = dict(parse_qsl(urlsplit(url).query))
    return {name: value for name, value in settings.items() if name not in given}


def _parse(url: str) -> SplitResult:
    if not url.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        raise InvalidArgument(
            f"{without_secret(url)} is no URL of a PostgreSQL database.",
            "Write postgresql://USER:PASSWORD@HOST:5432/DATABASE.",
        )
    try:
        parts = urlsplit(url)
        user, _, hosts = parts.netloc.rpartition("@")
        ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
        # What looks like another part may be one of the password.
        misread = "@" in user + parts.path + parts.fragment or not "".join(["0", *ports]).isdigit()
    except ValueError:
        misread = True
    if misread:
        raise InvalidArgument(
            f"{without_secret(url)} cannot be read.",
            "In a user or a password, write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 "
            "and [ as %5B.",
        )
    return parts
