"""MongoDB servers: what a URL of one says, a client with deadlines, and what its errors mean."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pymongo import AsyncMongoClient
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import split_hosts, validate_options

from mcp_hub.adapters.errors import InvalidArgument, Unavailable, names_hint
from mcp_hub.adapters.urls import without_secret

Client = AsyncMongoClient[dict[str, Any]]

CONNECTIONS = 8
_FORM = "Write mongodb://USER:PASSWORD@HOST:27017/DATABASE?authSource=admin."
_ESCAPES = "In a user or a password, write @ as %40, / as %2F, : as %3A, ? as %3F and # as %23."
_OPTIONS = (
    "appName", "authMechanism", "authSource", "directConnection", "loadBalanced", "replicaSet",
    "retryWrites", "srvMaxHosts", "srvServiceName", "ssl", "tls", "tlsCAFile",
    "tlsCertificateKeyFile", "tlsCertificateKeyFilePassword", "w",
)  # fmt: skip
_DATABASE = re.compile(r'[^/\\. "$*<>:|?\0]{1,63}')

_CREDENTIALS = (
    "Check the user and the password in {setting}; where the user belongs to another database, "
    "name that: ?authSource=admin."
)
_RIGHTS = "Give the user the role readWrite (for a data source, read) on the database {database}."
_FULL = "The server's disk or quota is full: free some space, or raise the quota."
_HINTS: Mapping[int, str] = {
    18: _CREDENTIALS,
    11: _CREDENTIALS,
    8000: _CREDENTIALS,
    13: _RIGHTS,
    12501: _FULL,
    14031: _FULL,
    85: "An index of that name exists already and is another: name another bucket, ?bucket=NAME.",
    86: "An index of that name exists already and is another: name another bucket, ?bucket=NAME.",
}
_NO_ANSWER = (50, 262)
_BUSY = "The server has a problem of its own; try again, or see its log."


@dataclass(frozen=True, slots=True)
class Target:
    """A database on a server or a set of servers."""

    database: str
    shown: str
    own: Mapping[str, str]
    """The options of ours that the URL gives."""
    setting: str
    url: str = field(repr=False)


def parse_url(url: str, setting: str, own: Iterable[str] = ()) -> Target:
    """What `url`, the value of `setting`, names. Options in `own` are ours, not the driver's.

    Raises:
        InvalidArgument: it is no URL of a database, or an option is unknown or wrong.
    """
    shown = without_secret(url)
    try:
        parts = urlsplit(url)
        user, _, hosts = parts.netloc.rpartition("@")
        split_hosts(hosts)
        # What looks like another part may be one of the password.
        misread = "@" in user + parts.path + parts.fragment or bool(parts.fragment)
    except (ValueError, PyMongoError):
        misread = True
    if misread or parts.scheme not in ("mongodb", "mongodb+srv") or not hosts:
        raise InvalidArgument(f"{shown} is no URL of a MongoDB database.", f"{_FORM} {_ESCAPES}")
    database = unquote(parts.path.removeprefix("/"))
    if not _DATABASE.fullmatch(database):
        raise InvalidArgument(
            f"{shown} names no database: {database!r} cannot be the name of one.", _FORM
        )
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    ours = {name: value for name, value in given.items() if name in own}
    _check_options({name: value for name, value in given.items() if name not in own}, own, shown)
    kept = "&".join(pair for pair in parts.query.split("&") if pair.partition("=")[0] not in own)
    return Target(database, shown, ours, setting, parts._replace(query=kept).geturl())


def _check_options(given: Mapping[str, str], own: Iterable[str], shown: str) -> None:
    spelt = {name.lower() for name in _OPTIONS}
    for name, value in given.items():
        if name.lower() not in spelt:
            hint = names_hint(name, (*own, *_OPTIONS), "options")
            raise InvalidArgument(f"{shown} has an unknown option {name!r}.", hint)
        if name == "w" and value != "majority":
            raise InvalidArgument(
                f"{shown} says w={value}.", "The hub writes with w=majority; leave the option out."
            )
        try:
            validate_options({name: value})
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            raise InvalidArgument(f"{shown}: the option {name} is wrong: {error}.", _FORM) from None


def connect(target: Target, timeout_s: float, **options: Any) -> Client:
    """A client on which each call takes `timeout_s` at most; makes no connection yet.

    Raises:
        InvalidArgument: the driver does not take the URL.
    """
    timeout_ms = max(1, round(timeout_s * 1000))
    try:
        return AsyncMongoClient(
            target.url,
            timeoutMS=timeout_ms,
            serverSelectionTimeoutMS=timeout_ms,
            connectTimeoutMS=timeout_ms,
            maxPoolSize=CONNECTIONS,
            # A streaming monitor goes on waiting for the server's word where a user was refused.
            serverMonitoringMode="poll",
            appname="mcp-hub",
            **options,
        )
    except (ConfigurationError, ValueError, TypeError, OSError) as error:
        raise InvalidArgument(
            f"{target.shown} cannot be used: {str(error).rstrip('.')}.", f"{_FORM} {_ESCAPES}"
        ) from None


async def describe(client: Client, target: Target) -> str:
    """Which server answers, and where."""
    info = await client.server_info()
    return f"MongoDB {info['version']}, {target.shown}"


@contextmanager
def translated(target: Target) -> Iterator[None]:
    """Raise what the server refuses, or does not answer, as Unavailable."""
    try:
        yield
    except OperationFailure as error:
        if error.code in _NO_ANSWER:
            raise _late(target) from error
        hint = _HINTS.get(error.code or 0, _BUSY)
        raise Unavailable(
            f"MongoDB at {target.shown} answers: {_reason(error)}.",
            hint.format(setting=target.setting, database=target.database),
        ) from error
    except ConnectionFailure as error:
        raise _unreachable(target, error) from error
    except PyMongoError as error:
        if error.timeout:
            raise _late(target) from error
        raise Unavailable(
            f"MongoDB at {target.shown}: {_reason(error)}.",
            f"Check the host in {target.setting}; where it is right, see the server's log.",
        ) from error


def _reason(error: Exception) -> str:
    """What the driver says, less its appendices."""
    if isinstance(error, OperationFailure) and error.details:
        return str(error.details.get("errmsg") or error).rstrip(".")
    return re.split(r", full error:| \(configured timeouts:|, Timeout:", str(error))[0].rstrip(".")


def _unreachable(target: Target, error: ConnectionFailure) -> Unavailable:
    reason = _reason(error)
    if re.search("SSL|certificate|TLS", reason):
        return Unavailable(
            f"No secure connection to {target.shown} can be made: {reason}.",
            "Renew the server's certificate, name its authority's file in tlsCAFile, or leave "
            f"tls out of {target.setting} for a server without TLS.",
        )
    # The driver cancels its calls of a server that its monitor finds silent.
    silent = re.search("timed out|No servers found yet|operation cancelled", reason)
    if silent or (error.timeout and not isinstance(error, ServerSelectionTimeoutError)):
        return _late(target)
    return Unavailable(
        f"MongoDB at {target.shown} cannot be reached, or broke off: {reason}.",
        f"Check that it runs, and the host and port in {target.setting}.",
    )


def _late(target: Target) -> Unavailable:
    return Unavailable(
        f"MongoDB at {target.shown} did not answer in time.",
        "See what keeps the server busy, whether a firewall is in the way, and whether tls in "
        f"{target.setting} suits the server; then try again.",
    )
