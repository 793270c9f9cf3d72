"""Work beside other work."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio


def in_background(
    work: Callable[[], Coroutine[Any, Any, object]],
) -> AbstractAsyncContextManager[None]:
    """Run `work` while the context lasts. What the body raises leaves as it is, in no group."""
    return beside(lambda _: work())


@asynccontextmanager
async def beside(
    work: Callable[[anyio.CancelScope], Coroutine[Any, Any, object]],
) -> AsyncIterator[None]:
    """Run `work` while the body runs, which it may cancel by the scope that it is given.

    What the body raises leaves as it is, in no group.
    """
    raised: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, tasks.cancel_scope)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below
            raised = error
        tasks.cancel_scope.cancel()
    if raised is not None:
        raise raised
