"""Deployments with a network: reached through its gate, and gone with it."""

from mcp_hub.services.containers.egress.networks import Egress
from mcp_hub.services.containers.instances import rows
from tests.services.containers.instances.hubs import Hub
from tests.waiting import eventually

_WEB = ("python3", "/servers/web.py", "8000")


async def test_a_server_that_speaks_http_is_called_through_its_gate(hub: Hub) -> None:
    egress = Egress(hub.engine, hub=await hub.database.write(rows.hub_id), image=None)

    async def has(*revisions: tuple[str, int]) -> bool:
        return await egress.revisions() == set(revisions)

    await hub.deploy("web", command=_WEB, transport="http", network="internal")
    assert await hub.call("web", "increment") == {"result": 1}
    assert await hub.call("web", "increment") == {"result": 2}
    assert await has(("web", 1))

    await hub.deploy("web", 2, command=_WEB, transport="http", network=("api.example.com",))
    assert await hub.call("web", "increment") == {"result": 1}
    await eventually(lambda: has(("web", 2)))
    roles = sorted(one.labels["mcp-hub.role"] for one in await hub.containers())
    assert roles == ["proxy", "server"]

    await hub.set("web", enabled=False)
    await eventually(has)
    assert await hub.containers() == []
