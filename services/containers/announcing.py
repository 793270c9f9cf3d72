"""Telling clients what changed of deployments."""

from mcp_hub.adapters.bus.port import Bus

DEPLOYMENTS_CHANGED = "resources/list_changed"
LISTS_CHANGED = ("tools/list_changed", "prompts/list_changed", DEPLOYMENTS_CHANGED)


async def announce(bus: Bus, name: str, *, exposed: bool, listed: bool = False) -> None:
    """Tell who watches a deployment that it changed.

    If it is or was `exposed`, the hub's own lists did too; if `listed`, which deployments there
    are.
    """
    await bus.publish(f"containers://{name}")
    if exposed:
        for topic in LISTS_CHANGED:
            await bus.publish(topic)
    elif listed:
        await bus.publish(DEPLOYMENTS_CHANGED)
