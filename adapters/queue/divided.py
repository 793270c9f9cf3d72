"""A shared queue with a part beside it for what is no other program's to take."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.queue.port import Claim, MessageEvent, SharedQueue


class _OwnClaim(Claim):
    """A claim of a message in the part that is not shared."""

    __slots__ = ()


class DividedQueue:
    """Messages of `own_kinds` lie in `own`, which no other program looks at, the rest in `shared`.

    The order holds within each part. Where messages wait in both, the claims of a consumer look
    into one part first and the other part first by turns, so that neither holds up the other; a
    message's position is that in its part.
    """

    def __init__(self, shared: SharedQueue, own: SharedQueue, own_kinds: Collection[str]) -> None:
        self._shared = shared
        self._own = own
        self._own_kinds = frozenset(own_kinds)
        self._own_first = True

    async def enqueue(
        self,
        message_id: str,
        *,
        priority: int = 0,
        delay_s: float = 0,
        kind: str = "",
        payload: Mapping[str, Any] | None = None,
    ) -> bool:
        part = self._own if kind in self._own_kinds else self._shared
        return await part.enqueue(
            message_id, priority=priority, delay_s=delay_s, kind=kind, payload=payload
        )

    async def claim(
        self, consumer: str, lease_s: float, limit: int = 1, *, passing_over: Collection[str] = ()
    ) -> list[Claim]:
        parts = (self._own, self._shared) if self._own_first else (self._shared, self._own)
        self._own_first = not self._own_first
        claims: list[Claim] = []
        for part in parts:
            if len(claims) == limit:
                break
            try:
                taken = await part.claim(
                    consumer, lease_s, limit - len(claims), passing_over=passing_over
                )
            except Unavailable:
                if claims:  # which would be held by nobody who knows it
                    break
                raise
            claims += map(_owned, taken) if part is self._own else taken
        return claims

    async def heartbeat(self, claim: Claim, lease_s: float) -> bool:
        return await self._part_of(claim).heartbeat(claim, lease_s)

    async def ack(self, claim: Claim) -> bool:
        return await self._part_of(claim).ack(claim)

    async def complete(self, claim: Claim, result: Mapping[str, Any]) -> bool:
        return await self._part_of(claim).complete(claim, result)

    async def fail(self, claim: Claim, reason: str) -> bool:
        return await self._part_of(claim).fail(claim, reason)

    async def retry(self, claim: Claim, *, delay_s: float = 0) -> bool:
        return await self._part_of(claim).retry(claim, delay_s=delay_s)

    async def cancel(self, message_id: str) -> bool:
        return await self._own.cancel(message_id) or await self._shared.cancel(message_id)

    async def position(self, message_id: str) -> int | None:
        before = await self._own.position(message_id)
        return await self._shared.position(message_id) if before is None else before

    async def depth(self) -> int:
        return await self._own.depth() + await self._shared.depth()

    async def check(self) -> str:
        own = await self._own.depth()
        return f"{await self._shared.check()}; for hubs only, {own} waiting"

    async def events(self, after: int, limit: int = 1000) -> tuple[list[MessageEvent], int]:
        """Those of the shared part: nobody else has to do with the other."""
        return await self._shared.events(after, limit)

    async def held(self, message_ids: Sequence[str]) -> set[str]:
        return await self._own.held(message_ids) | await self._shared.held(message_ids)

    async def close(self) -> None:
        await self._own.close()
        await self._shared.close()

    def _part_of(self, claim: Claim) -> SharedQueue:
        return self._own if isinstance(claim, _OwnClaim) else self._shared


def _owned(claim: Claim) -> Claim:
    return _OwnClaim(claim.message_id, claim.token, claim.delivery, claim.payload)
