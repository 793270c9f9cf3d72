"""Connections to Redis, and what its driver's exceptions mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.urls import without_secret

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
_RETRIES = 3
_CONNECTIONS = 50

_HINTS: tuple[tuple[type[RedisError], str], ...] = (
    (AuthenticationError, "Check the user and the password in redis_url."),
    (NoPermissionError, "Give the user the commands and keys that the hub needs."),
    (OutOfMemoryError, "Redis is full: raise its maxmemory, or free some."),
    (TimeoutError, "Redis does not answer in time; try again, or see what keeps it busy."),
    (ConnectionError, "Check that Redis runs and that redis_url names it."),
)

_CERTIFICATE = (
    "Renew the server's certificate, or name its authority's file: ?ssl_ca_certs=FILE in redis_url."
)
_TLS = "A server with TLS needs rediss://."
_NO_TLS = "A server without TLS needs redis://."


def connect(url: str) -> "Redis":
    """A client of the Redis at `url` whose every call has a deadline and survives a restart."""
    # Callers beyond the pool's connections wait for one; the driver's other pool refuses them.
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=ANSWER_TIMEOUT_S,
        decode_responses=False,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=ANSWER_TIMEOUT_S,
        health_check_interval=30,
        client_name="mcp-hub",
        # A lost connection is made anew; a server that does not answer is not asked again, since
        # the tries of a command and of its connection would multiply.
        retry=Retry(
            ExponentialWithJitterBackoff(cap=0.5, base=0.05),
            _RETRIES,
            supported_errors=(ConnectionError,),
        ),
    )
    return Redis.from_pool(pool)


async def describe(redis: "Redis", url: str, setting: str = "redis_url") -> str:
    """One round trip: what the server at `url` is. Raises Unavailable."""
    with translated(url, setting):
        information: dict[str, Any] = await redis.info("server")
    return f"Redis {information['redis_version']}, {without_secret(url)}"


@contextmanager
def translated(url: str, setting: str = "redis_url") -> Iterator[None]:
    """Raise what Redis lacks as Unavailable; a wrong command stays the error that it is.

    `setting` is what to name where `url`, which it gives, is wrong.
    """
    try:
        yield
    except RedisError as error:
        hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            hint = _CERTIFICATE
        elif isinstance(error, ConnectionError | TimeoutError) and _is_unanswered(error):
            hint = f"{hint} {_NO_TLS if url.startswith('rediss:') else _TLS}"
        if hint is None and isinstance(error, ResponseError) and _is_passing(error):
            hint = "Redis is loading, or is a replica; try again, or connect to the primary."
        if hint is None and "DB index" in str(error):
            hint = "This Redis has no database of the number that redis_url ends with."
        if hint is None:
            raise
        reason = str(error).rstrip(".") or type(error).__name__
        hint = hint.replace("redis_url", setting)
        raise Unavailable(f"Redis at {without_secret(url)}: {reason}.", hint) from error
    except OSError as error:
        raise Unavailable(
            f"Redis at {without_secret(url)} cannot be reached: {error}.",
            f"Check that Redis runs and that {setting} names it.",
        ) from error


def _is_unanswered(error: RedisError) -> bool:
    """Whether the server may speak TLS where we do not, or the other way round."""
    return str(error).startswith(("Connection closed by server", "Timeout connecting"))


def _is_passing(error: ResponseError) -> bool:
    return str(error).startswith(("LOADING", "READONLY", "MASTERDOWN", "MISCONF", "BUSY"))
