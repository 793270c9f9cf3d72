"""A server that asks its caller, as either version of the protocol has it."""

from typing import Annotated

from mcp.server import MCPServer
from mcp.server.elicitation import (
    AcceptedElicitation,
    CancelledElicitation,
    DeclinedElicitation,
)
from mcp.server.mcpserver import Elicit, Resolve
from pydantic import BaseModel

server = MCPServer("asker")


class Name(BaseModel):
    name: str


def ask_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


Answer = AcceptedElicitation[Name] | DeclinedElicitation | CancelledElicitation


@server.tool()
def greet(who: Annotated[Answer, Resolve(ask_name)]) -> str:
    """Greet the caller by the name that it gives."""
    if isinstance(who, AcceptedElicitation):
        return f"Hello, {who.data.name}"
    return f"No name: {who.action}"


if __name__ == "__main__":
    server.run("stdio")
