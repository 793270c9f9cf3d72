"""Work beside other work."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class Cut(Exception):
    """The task group in which the work went on was cancelled."""


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


async def first(*works: Callable[[], Awaitable[T]]) -> T:
    """What the first of them returns that does; the others are cancelled."""
    found: list[T] = []

    async def run(work: Callable[[], Awaitable[T]]) -> None:
        found.append(await work())
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(run, work)
    return found[0]


async def uncut(tasks: TaskGroup, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns or raises. It goes on in `tasks` when the caller is cancelled.

    Raises:
        Cut: `tasks` were cancelled meanwhile.
    """
    outcome: list[T] = []
    raised: list[Exception] = []
    done = anyio.Event()

    async def run() -> None:
        try:
            outcome.append(await work())
        except Exception as error:  # noqa: BLE001 - raised below
            raised.append(error)
        finally:
            done.set()

    tasks.start_soon(run)
    await done.wait()
    if raised:
        raise raised[0]
    if not outcome:
        raise Cut
    return outcome[0]


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """A task group that raises what its first failing task raised, and no group of that."""
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
