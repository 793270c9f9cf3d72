"""Sending at intervals what was collected: buffered, tried again, and never in the way."""

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

import anyio

from mcp_hub.adapters.errors import HubError, Unavailable
from mcp_hub.adapters.urls import without_secret
from mcp_hub.services.background import in_background

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT_S = 10.0
_CLOSING_S = 2.0
_FIRST_BACK_OFF_S = 1.0
_MAX_BACK_OFF_S = 60.0


class Refused(HubError):
    """The endpoint will not have this, however often it is sent."""

    code = "invalid_argument"


class Sender(ABC, Generic[T]):
    """Sends what `_collect` gives, each `interval_s`, to one endpoint; subclasses say how.

    Up to `keep` of what could not be sent wait, the oldest are given up first.
    """

    def __init__(self, url: str, *, interval_s: float, keep: int) -> None:
        self._url = url
        self._interval_s = interval_s
        self._waiting: deque[T] = deque(maxlen=keep)
        self._sent_at: float | None = None
        self._problem: str | None = None

    @abstractmethod
    async def _collect(self) -> T | None:
        """What is to be sent now, if anything is."""

    @abstractmethod
    async def _send(self, item: T) -> None:
        """Send one; raises Unavailable to have it tried again, Refused to have it given up."""

    async def _leave(self) -> None:
        """Say goodbye to the endpoint. Raises as `_send`."""

    async def check(self) -> str:
        """How sending goes, for the hub's health.

        Raises:
            Unavailable: the last attempt failed.
        """
        shown = without_secret(self._url)
        if self._problem is not None:
            raise Unavailable(f"{shown}: {self._problem} {len(self._waiting)} reports wait.")
        if self._sent_at is None:
            return f"{shown}: nothing to send yet"
        return f"{shown}: sent {time.monotonic() - self._sent_at:.0f} s ago"

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send while the context lasts, and what is there at its end."""
        try:
            async with in_background(self._send_always):
                yield
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSING_S):
                await self._gather()
                if await self._send_waiting():
                    with suppress(HubError):
                        await self._leave()

    async def _send_always(self) -> None:
        collect_at, back_off_s = anyio.current_time() + self._interval_s, _FIRST_BACK_OFF_S
        while True:
            wait_s = collect_at - anyio.current_time()
            await anyio.sleep(max(0.0, min(wait_s, back_off_s) if self._waiting else wait_s))
            if anyio.current_time() >= collect_at:
                collect_at = anyio.current_time() + self._interval_s
                await self._gather()
            if await self._send_waiting():
                back_off_s = _FIRST_BACK_OFF_S
            else:
                back_off_s = min(back_off_s * 2, _MAX_BACK_OFF_S)

    async def _gather(self) -> None:
        try:
            item = await self._collect()
        except Exception:  # sending must not end what it reports on
            logger.exception("There is nothing to send to %s", without_secret(self._url))
            return
        if item is not None:
            self._waiting.append(item)

    async def _send_waiting(self) -> bool:
        """Send what waits, oldest first; whether all of it is gone."""
        while self._waiting:
            item = self._waiting[0]
            problem = None
            try:
                await self._send(item)
            except Unavailable as error:
                self._fail(error.message)
                return False
            except Refused as error:
                problem = error.message
            if self._waiting and self._waiting[0] is item:
                self._waiting.popleft()
            if problem is not None:
                self._fail(problem)
            else:
                self._problem, self._sent_at = None, time.monotonic()
        return True

    def _fail(self, problem: str) -> None:
        if self._problem is None:
            logger.warning("Not sent to %s: %s", without_secret(self._url), problem)
        self._problem = problem


async def request(method: str, url: str, *, content: bytes, headers: Mapping[str, str]) -> None:
    """Send a request. A user and password in the URL are sent as such.

    Raises:
        Unavailable: no answer, or one that says to try again.
        Refused: an answer that says not to.
    """
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=_TIMEOUT_S) as http:
            answer = await http.request(method, url, content=content, headers=dict(headers))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Unavailable(f"no answer ({type(error).__name__}).") from error
    status = answer.status_code
    if status in (408, 429) or status >= 500:
        raise Unavailable(f"it answered {status}.")
    if status >= 300:
        raise Refused(f"it answered {status}: {answer.text[:200]!r}.")
