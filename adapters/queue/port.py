"""The queue port: messages that are worked on once, by whoever holds their lease."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

AGEING_S = 60.0
"""Waiting for so many seconds counts as one point of priority, unless a queue is told otherwise."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A message in the hands of one consumer until its lease runs out.

    `delivery` counts from 1 and grows each time the message is claimed; `token` proves the
    claim to `heartbeat`, `ack` and `retry`; `payload` is what the message was enqueued with.
    """

    message_id: str
    token: str
    delivery: int
    payload: Mapping[str, Any] | None = None


class Queue(Protocol):
    """At-least-once delivery, highest priority first, then first in, first out.

    Waiting counts as priority, a point for every `ageing_s` seconds since the message was due: of
    two messages the one with the higher priority comes first, unless the other was due earlier by
    `ageing_s` for each point between them. So none waits for ever, whatever comes after it.

    A message is its id; its payload describes it to a consumer that cannot look it up. It keeps
    its place in the order when a consumer loses it or gives it back. A claim that is
    neither acknowledged nor kept alive is no longer held when its lease ends: the message is
    then due again, and whoever claims it next has a new token. Every method raises Unavailable
    when the queue does not answer.
    """

    async def enqueue(
        self,
        message_id: str,
        *,
        priority: int = 0,
        delay_s: float = 0,
        kind: str = "",
        payload: Mapping[str, Any] | None = None,
    ) -> bool:
        """Add a message, to be claimed after `delay_s` seconds; False if it is there already.

        `kind` is what a claim may pass over. `payload` is JSON: it comes back with every claim.
        """
        ...

    async def claim(
        self, consumer: str, lease_s: float, limit: int = 1, *, passing_over: Collection[str] = ()
    ) -> list[Claim]:
        """Take up to `limit` due messages of other kinds than `passing_over`, each for `lease_s`
        seconds. Never waits."""
        ...

    async def heartbeat(self, claim: Claim, lease_s: float) -> bool:
        """Extend the lease to `lease_s` from now; False if the claim is no longer held."""
        ...

    async def ack(self, claim: Claim) -> bool:
        """Remove the message for good; False if the claim is no longer held."""
        ...

    async def retry(self, claim: Claim, *, delay_s: float = 0) -> bool:
        """Give the message back, due after `delay_s`; False if the claim is no longer held."""
        ...

    async def cancel(self, message_id: str) -> bool:
        """Remove a message whether claimed or not; False if it is not there."""
        ...

    async def position(self, message_id: str) -> int | None:
        """How many due messages come before this one; None if it is not waiting to be claimed."""
        ...

    async def depth(self) -> int:
        """How many messages wait, due or delayed, claimed ones left out."""
        ...

    async def check(self) -> str:
        """Make one round trip; what the queue is, and how many wait. Raises Unavailable."""
        ...

    async def close(self) -> None: ...


MessageEventKind = Literal["taken", "completed", "failed", "returned", "lost", "removed"]


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """What happened to a message. `taken`: by a program that is no hub, whose name is `by`.

    The other kinds do not say who did it. `position` grows from event to event.
    """

    position: int
    kind: MessageEventKind
    message_id: str
    by: str = ""
    result: Any = None
    """What a `completed` message came to (JSON)."""
    reason: str = ""
    """Why a message `failed`."""


@runtime_checkable
class SharedQueue(Queue, Protocol):
    """A queue whose messages are also added, taken and waited for by programs that are no hubs.

    What ended otherwise than by `complete` or `fail` leaves its waiters without an answer.
    """

    async def complete(self, claim: Claim, result: Mapping[str, Any]) -> bool:
        """Remove the message and tell its waiters `result`; False if the claim is not held."""
        ...

    async def fail(self, claim: Claim, reason: str) -> bool:
        """Remove the message and tell its waiters why; False if the claim is not held."""
        ...

    async def events(self, after: int, limit: int = 1000) -> tuple[list[MessageEvent], int]:
        """Up to `limit` events after the position `after` (0: from the oldest kept), in order,
        and the position to go on from. Never waits."""
        ...

    async def held(self, message_ids: Sequence[str]) -> set[str]:
        """Those of the messages that somebody holds, hub or not."""
        ...
