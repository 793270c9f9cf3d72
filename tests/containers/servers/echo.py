"""Tools, a resource, a template and a prompt that answer at once."""

import os
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("echo", instructions="Says it again.")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def echo(text: str) -> str:
    """Return the text."""
    return text


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int = 1) -> dict[str, int]:
    """Return the sum of two numbers."""
    return {"sum": a + b}


@server.tool()
def variable(name: str) -> str | None:
    """Return a variable of the environment."""
    return os.environ.get(name)


@server.tool()
def read(path: str) -> str:
    """Return a file's text."""
    return Path(path).read_text()


@server.tool()
def write(path: str, text: str) -> int:
    """Write a file; the number of characters."""
    return Path(path).write_text(text)


@server.resource("echo://greeting")
def greeting() -> str:
    """A greeting."""
    return "Hello from the container"


@server.resource("echo://said/{text}")
def said(text: str) -> str:
    """The text."""
    return text


@server.prompt()
def repeat(text: str) -> str:
    """Ask for a repetition."""
    return f"Repeat after me: {text}"


if __name__ == "__main__":
    server.run("stdio")
