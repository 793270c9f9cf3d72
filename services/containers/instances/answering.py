"""The calls of one instance: they wait until it is ready, and are told what became of it."""

from collections.abc import Mapping
from time import monotonic
from typing import Any

import anyio

from mcp_hub.adapters.errors import HubError, TimedOut, Unavailable
from mcp_hub.services.containers.instances.endings import Ending
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.sessions import Session

_AWAY_S = 2.0
"""How long a call waits for an engine that broke off to come back."""
_WHY_S = 5.0
"""How long a call that was cut off waits to learn why."""


class Gone(Exception):
    """The instance did not get the call and never will: it is to go to another."""


class Answering:
    """Between the callers of an instance and its session, which begins, breaks off and ends."""

    def __init__(self, name: str, max_calls: int) -> None:
        self._name = name
        self._max_calls = max_calls
        self._places = anyio.Semaphore(max_calls)
        self._session: Session | None = None
        self._ending: Ending | None = None
        self._away: HubError | None = None
        self._changed = anyio.Event()
        self._answered = anyio.Event()
        self.is_closing = False
        """No further call is taken."""
        self.in_flight = 0
        self.used_at = monotonic()
        self.count = 0
        """Calls that have ended."""

    def open(self, session: Session) -> None:
        self._session, self._away = session, None
        self._change()

    def break_off(self, error: HubError) -> None:
        """What carried the session is away, perhaps not for good."""
        self._session, self._away = None, error
        self._change()

    def close(self, ending: Ending) -> None:
        """No call is answered any more. Only the first ending counts."""
        self.is_closing = True
        if self._ending is None:
            self._session, self._ending = None, ending
            self._change()

    async def quiet(self) -> None:
        """Return once no call is in flight."""
        while self.in_flight:
            await self._answered.wait()

    async def ready(self) -> Session:
        """The session, once there is one.

        Raises:
            Gone: there will be none.
            HubError: it could not be started, or the engine is away.
        """
        until: float | None = None
        while True:
            if self._ending is not None:
                if self._ending.kind == "failed":
                    raise self._ending.error
                raise Gone
            if self._session is not None and self._session.channel.ended is None:
                return self._session
            if self._away is None:
                until = None
            elif until is None:
                until = monotonic() + _AWAY_S
            elif monotonic() >= until:
                raise self._away
            with anyio.move_on_after(None if until is None else until - monotonic()):
                await self._changed.wait()

    async def request(
        self, method: str, params: Mapping[str, Any], *, caller: Caller | None, timeout_s: float
    ) -> dict[str, Any]:
        """The server's raw result. The time for the call begins when the server is ready.

        Raises:
            Gone: the server never got it.
            RpcError: it answered with an error.
            TimedOut: it did not answer in time.
            Unavailable: it ended, and may have done what it was called for.
            HubError: it could not be started.
        """
        if self.is_closing:
            raise Gone
        self.in_flight += 1
        try:
            session = await self.ready()
            until = monotonic() + timeout_s
            with anyio.move_on_after(timeout_s) as waiting:
                await self._places.acquire()
            if waiting.cancelled_caught:
                raise TimedOut(
                    f"{self._name} had {self._max_calls} calls under way for {timeout_s:g} s.",
                    "Call it again later, or deploy it with larger max_calls or more replicas.",
                )
            try:
                left = max(0.001, until - monotonic())
                return await session.request(method, params, caller=caller, timeout_s=left)
            except TimedOut as error:
                raise TimedOut(
                    f"{self._name} did not answer {_described(method, params)} within "
                    f"{timeout_s:g} s.",
                    error.hint or "Give a larger timeout_s, up to 3600, or ask for less at a time.",
                ) from None
            except Unavailable as error:
                raise await self._why(error) from error
            finally:
                self._places.release()
        finally:
            self.in_flight -= 1
            self.count += 1
            self.used_at = monotonic()
            self._answered.set()
            self._answered = anyio.Event()

    async def _why(self, error: Unavailable) -> HubError:
        """What is known by now of why a call was cut off."""
        with anyio.move_on_after(_WHY_S):
            while self._ending is None and self._away is None:
                await self._changed.wait()
        if self._ending is not None:
            return self._ending.error
        return self._away or error

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _described(method: str, params: Mapping[str, Any]) -> str:
    return f"the call of {params['name']!r}" if method == "tools/call" else method
