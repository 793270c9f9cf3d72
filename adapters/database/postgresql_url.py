"""PostgreSQL's URLs, as libpq takes them, for asyncpg."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.urls import without_secret

_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_LIBPQ_ONLY = frozenset(
    {
        "channel_binding", "connect_timeout", "gssencmode", "keepalives", "keepalives_count",
        "keepalives_idle", "keepalives_interval", "load_balance_hosts", "tcp_user_timeout",
    }
)  # fmt: skip
"""Options that asyncpg would take for the server's."""


def dsn_of(url: str, database: str | None = None) -> str:
    """`url` as asyncpg takes it, to `database` instead of its own where one is given.

    Raises:
        InvalidArgument: it is no URL of a PostgreSQL database.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise InvalidArgument(
            f"{without_secret(url)} is no URL of a PostgreSQL database.",
            "Write postgresql://USER:PASSWORD@HOST:5432/DATABASE.",
        )
    # What looks like a host may then be a part of the password.
    if parts.netloc.count("@") > 1 or "@" in parts.path:
        raise InvalidArgument(
            f"{without_secret(url)} cannot be read.",
            "In a user or password, write @ as %40, / as %2F, : as %3A, ? as %3F and # as %23.",
        )
    options = [(key, value) for key, value in parse_qsl(parts.query) if key not in _LIBPQ_ONLY]
    path = parts.path if database is None else f"/{database}"
    return urlunsplit(("postgresql", parts.netloc, path, urlencode(options), ""))


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
