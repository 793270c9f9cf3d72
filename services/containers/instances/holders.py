"""The hub processes that hold instances, in the database. Every function runs inside its caller's
transaction.

One whose lease has ended counts as dead, and so does one without a row.
"""

from collections.abc import Collection

from sqlalchemy import Connection, delete, select, update

from mcp_hub.adapters.database.containers_schema import container_holders as holders
from mcp_hub.adapters.database.containers_schema import container_instances as instances
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.services.containers.instances.rows import Holder


def enter(connection: Connection, holder: Holder, lease_s: float) -> None:
    """Add a holder. One statement."""
    connection.execute(
        holders.insert().values(
            id=holder.id,
            address=holder.address,
            secret=holder.secret,
            expires_at=now_ms() + round(lease_s * 1000),
        )
    )


def renew(connection: Connection, holder: str, lease_s: float, used: Collection[str]) -> bool:
    """Renew a holder's lease, and note which instances were used; False if it counts as dead."""
    alive = connection.execute(
        update(holders)
        .where(holders.c.id == holder)
        .values(expires_at=now_ms() + round(lease_s * 1000))
    ).rowcount
    if alive and used:
        connection.execute(
            update(instances)
            .where(instances.c.id.in_(sorted(used)), instances.c.holder == holder)
            .values(used_at=now_ms())
        )
    return alive == 1


def bury(connection: Connection, holder: str) -> bool:
    """Note that a holder is dead, so that others may take over what it holds. One statement."""
    return connection.execute(delete(holders).where(holders.c.id == holder)).rowcount == 1


def sweep(connection: Connection, after_s: float) -> None:
    """Delete the rows of holders that died long ago. One statement."""
    old = holders.c.expires_at < now_ms() - round(after_s * 1000)
    connection.execute(delete(holders).where(old))


def others(connection: Connection, holder: str) -> list[Holder]:
    """The other hub processes that count as alive. One statement."""
    alive = select(holders).where(holders.c.id != holder, holders.c.expires_at > now_ms())
    return [Holder(row.id, row.address, row.secret) for row in connection.execute(alive)]


def release(connection: Connection, ids: Collection[str], holder: str) -> None:
    """Leave instances to whoever takes them over next. One statement."""
    mine = (instances.c.id.in_(sorted(ids)), instances.c.holder == holder)
    connection.execute(update(instances).where(*mine).values(holder=None))
