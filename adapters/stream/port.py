"""The stream port: an ordered log that groups of consumers work through, each entry once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as a consumer gets it; `delivery` counts from 1."""

    id: str
    body: bytes
    delivery: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind: entries it was never given, and given but not acknowledged."""

    undelivered: int
    pending: int


class Stream(Protocol):
    """An append-only log. Within a group an entry goes to one consumer, in order, at least once:
    what a consumer does not acknowledge, another may claim when it has been idle for long."""

    async def append(self, bodies: Sequence[bytes]) -> list[str]:
        """Add entries, all or none; their ids, which grow. Raises Unavailable."""
        ...

    async def create_group(self, group: str) -> None:
        """Let a group begin at the oldest entry; a group that exists stays where it is."""
        ...

    async def read(
        self, group: str, consumer: str, *, limit: int = 100, wait_s: float = 0
    ) -> list[Entry]:
        """The next entries that nobody in the group was given; waits for some up to `wait_s`.

        Raises:
            NotFound: there is no such group.
        """
        ...

    async def ack(self, group: str, ids: Sequence[str]) -> int:
        """Mark entries as done; how many of them were pending."""
        ...

    async def claim_stale(
        self, group: str, consumer: str, *, idle_s: float, limit: int = 100
    ) -> list[Entry]:
        """Take over entries that others were given over `idle_s` seconds ago and did not finish."""
        ...

    async def trim(self, keep: int) -> int:
        """Remove the oldest entries until `keep` are left, but none that a group has not
        acknowledged; how many were removed."""
        ...

    async def lag(self, group: str) -> Lag:
        """How far the group is behind. Raises NotFound."""
        ...

    async def close(self) -> None: ...
