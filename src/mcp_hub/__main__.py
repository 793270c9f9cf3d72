"""`mcp-hub` and `python -m mcp_hub`."""

from mcp_hub.server.cli import main

if __name__ == "__main__":
    main()
