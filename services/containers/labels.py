"""The labels by which a hub knows the engine's containers and networks as its own."""

HUB, NAME, INSTANCE, REVISION, ROLE = (
    f"mcp-hub.{key}" for key in ("hub", "name", "instance", "revision", "role")
)
