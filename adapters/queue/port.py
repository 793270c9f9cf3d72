"""The queue port: messages that are worked on once, by whoever holds their lease."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Claim:
    """A message in the hands of one consumer until its lease runs out.

    `delivery` counts from 1 and grows each time the message is claimed; `token` proves the
    claim to `heartbeat`, `ack` and `retry`.
    """

    message_id: str
    token: str
    delivery: int


class Queue(Protocol):
    """At-least-once delivery, highest priority first, then first in, first out.

    A message is its id: what it stands for is looked up by whoever claims it. A claim that is
    neither acknowledged nor kept alive is no longer held when its lease ends: the message is
    then due again, and whoever claims it next has a new token. Every method raises Unavailable
    when the queue does not answer.
    """

    async def enqueue(self, message_id: str, *, priority: int = 0, delay_s: float = 0) -> bool:
        """Add a message, to be claimed after `delay_s` seconds; False if it is there already."""
        ...

    async def claim(self, consumer: str, lease_s: float, limit: int = 1) -> list[Claim]:
        """Take up to `limit` due messages, each for `lease_s` seconds. Never waits."""
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

    async def depth(self) -> int:
        """How many messages wait, due or delayed, claimed ones left out."""
        ...

    async def close(self) -> None: ...
