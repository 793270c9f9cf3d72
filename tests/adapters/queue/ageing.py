"""The order of delivery as time passes, whatever the priorities."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import combinations, count

import anyio
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.queue.port import Queue

AGEING_S = 0.004
_ROUNDING_S = 0.002
_opened = count()


def check_ageing(open_queue: Callable[..., AbstractAsyncContextManager[Queue]]) -> None:
    """Whatever is added when, no message is delivered before one that is ahead of it by then.

    The store's clock is this machine's, and reads something between the beginning and the end of
    the call that added a message: only what is certain by that is asked for.
    """
    steps = st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 6)), min_size=2, max_size=14)
    with start_blocking_portal() as portal:

        @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(steps)
        def check(steps: list[tuple[int, int]]) -> None:
            portal.call(_check, open_queue, steps)

        check()


async def _check(
    open_queue: Callable[..., AbstractAsyncContextManager[Queue]], steps: list[tuple[int, int]]
) -> None:
    ranks: dict[str, tuple[float, float]] = {}
    async with open_queue(f"ageing_{next(_opened)}", ageing_s=AGEING_S) as queue:
        for number, (priority, pause_ms) in enumerate(steps):
            await anyio.sleep(pause_ms / 1000)
            ahead_s = priority * AGEING_S
            begin = time.time() - ahead_s - _ROUNDING_S
            await queue.enqueue(f"job_{number}", priority=priority)
            ranks[f"job_{number}"] = (begin, time.time() - ahead_s + _ROUNDING_S)
        delivered = []
        while claims := await queue.claim("c", 3600, 3):
            delivered += [claim.message_id for claim in claims]
    assert sorted(delivered) == sorted(ranks)
    for earlier, later in combinations(delivered, 2):
        assert ranks[earlier][0] <= ranks[later][1], (earlier, later, ranks)
