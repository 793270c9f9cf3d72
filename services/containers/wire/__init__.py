"""How the hub speaks MCP to a server in a container, and how hub processes speak of one."""
