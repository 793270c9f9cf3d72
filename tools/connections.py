"""The connection that a request came by."""

from mcp.server.connection import Connection
from mcp.server.session import ServerSession


def connection_of(session: ServerSession) -> Connection:
    """The connection behind a request's session, which outlives it and knows when it ends.

    The SDK gives it no public name yet.
    """
    return session._connection
