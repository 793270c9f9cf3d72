"""Images of MCP servers that come without a Dockerfile: a folder's, or a package's."""
