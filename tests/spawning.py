"""Other processes for the contracts: what must hold between them is not shown by tasks."""

import resource
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

import anyio
from anyio import to_thread

T = TypeVar("T")

_TIMEOUT_S = 60.0
_spawn = get_context("spawn")
_barrier: Barrier


class Processes:
    """Two processes that live as long as the test session."""

    def __init__(self) -> None:
        barrier = _spawn.Barrier(2)
        self._pool = ProcessPoolExecutor(2, _spawn, initializer=_enter, initargs=(barrier,))

    async def run(
        self, one: Callable[[], Awaitable[T]], other: Callable[[], Awaitable[T]]
    ) -> tuple[T, T]:
        """Run two picklable async functions, begun at the same moment, a process each."""
        futures = [self._pool.submit(_begin_together, work) for work in (one, other)]
        first, second = await to_thread.run_sync(lambda: [f.result(_TIMEOUT_S) for f in futures])
        return first, second

    def close(self) -> None:
        self._pool.shutdown()


def _enter(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _begin_together(work: Callable[[], Awaitable[T]]) -> T:
    _barrier.wait(_TIMEOUT_S)
    return anyio.run(work)


@contextmanager
def killed_process(target: Callable[..., Awaitable[Any]], *args: Any) -> Iterator[None]:
    """Run `target(*args)` in a process of its own, which is killed when the context is left."""
    process = _spawn.Process(target=anyio.run, args=(target, *args), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
