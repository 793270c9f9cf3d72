"""The cache port: values that may be lost at any time, and locks that end by themselves."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Lock:
    """A lock as its holder has it. `held` turns False when it was lost: it ran out, or the cache
    was lost with it. `fence` grows with every holder, so that what a lock guards can refuse one
    that was lost."""

    fence: int
    held: bool = True


class Cache(Protocol):
    """Bytes under a name for a while. A miss means nothing: what is cached can be made again."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None if it is not there (any more)."""
        ...

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep the value for `ttl_s` seconds at most."""
        ...

    async def delete(self, key: str) -> None:
        """Forget the value; forgetting what is not there is no error."""
        ...

    def lock(
        self, name: str, ttl_s: float, *, wait_s: float = 0
    ) -> AbstractAsyncContextManager[Lock | None]:
        """Hold the lock `name` inside the context; None if others hold it for `wait_s` seconds.

        It is renewed while the context lasts, and ends `ttl_s` after its holder died.
        """
        ...

    async def check(self) -> str:
        """Make one round trip; what the cache is. Raises Unavailable."""
        ...

    async def close(self) -> None: ...
