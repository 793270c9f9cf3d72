"""A model of a queue, and the machine that compares a real one with it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from itertools import count

from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from mcp_hub.adapters.queue.port import Claim, Queue

LONG = 3600.0

_opened = count()


@dataclass
class Message:
    """`token` is that of the claim that holds the message; it is `due` when it may be claimed."""

    rank: tuple[int, int]
    due: bool
    kind: str
    delivery: int = 0
    token: str | None = None


def check_against_model(
    open_queue: Callable[[str], AbstractAsyncContextManager[Queue]], runs: int
) -> None:
    """Run random calls against a new queue and against the model.

    Time stands still: a delay or a lease is zero, over at once, or an hour, never over.
    """
    with start_blocking_portal() as portal:

        class Machine(_QueueMachine):
            def __init__(self) -> None:
                super().__init__(portal, open_queue)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=runs,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )


class _QueueMachine(RuleBasedStateMachine):
    claims = Bundle("claims")
    ids = st.sampled_from("abcdefgh")
    kinds = st.sampled_from(["", "x", "y"])
    waits = st.sampled_from([0.0, LONG])

    def __init__(
        self,
        portal: BlockingPortal,
        open_queue: Callable[[str], AbstractAsyncContextManager[Queue]],
    ) -> None:
        super().__init__()
        self.call = portal.call
        self.context = portal.wrap_async_context_manager(open_queue(f"queue_{next(_opened)}"))
        self.queue = self.context.__enter__()
        self.model: dict[str, Message] = {}
        self.sequence = count()

    def teardown(self) -> None:
        self.context.__exit__(None, None, None)

    @rule(id_=ids, priority=st.integers(-2, 2), delay_s=waits, kind=kinds)
    def enqueue(self, id_: str, priority: int, delay_s: float, kind: str) -> None:
        enqueue = partial(self.queue.enqueue, id_, priority=priority, delay_s=delay_s, kind=kind)
        assert self.call(enqueue) == (id_ not in self.model)
        rank = (-priority, next(self.sequence))
        self.model.setdefault(id_, Message(rank, delay_s == 0, kind))

    @rule(target=claims, lease_s=waits, limit=st.integers(0, 4), passing_over=st.sets(kinds))
    def claim(self, lease_s: float, limit: int, passing_over: set[str]) -> object:
        claim = partial(self.queue.claim, "consumer", lease_s, limit, passing_over=passing_over)
        claims = self.call(claim)
        due = [id_ for id_ in self.due() if self.model[id_].kind not in passing_over]
        assert [claim.message_id for claim in claims] == due[:limit]
        for claim in claims:
            message = self.model[claim.message_id]
            assert claim.token != message.token
            message.delivery += 1
            assert claim.delivery == message.delivery
            message.token, message.due = claim.token, lease_s == 0
        return multiple(*claims)

    @rule(claim=claims, lease_s=waits)
    def heartbeat(self, claim: Claim, lease_s: float) -> None:
        held = self.held(claim)
        assert self.call(self.queue.heartbeat, claim, lease_s) == (held is not None)
        if held:
            held.due = lease_s == 0

    @rule(claim=claims)
    def ack(self, claim: Claim) -> None:
        held = self.held(claim)
        assert self.call(self.queue.ack, claim) == (held is not None)
        if held:
            del self.model[claim.message_id]

    @rule(claim=consumes(claims), delay_s=waits)
    def retry(self, claim: Claim, delay_s: float) -> None:
        held = self.held(claim)
        retry = partial(self.queue.retry, claim, delay_s=delay_s)
        assert self.call(retry) == (held is not None)
        if held:
            held.token, held.due = None, delay_s == 0

    @rule(id_=ids)
    def cancel(self, id_: str) -> None:
        assert self.call(self.queue.cancel, id_) == (self.model.pop(id_, None) is not None)

    @invariant()
    def depths_agree(self) -> None:
        waiting = sum(message.due or message.token is None for message in self.model.values())
        assert self.call(self.queue.depth) == waiting

    @rule(id_=ids)
    def position(self, id_: str) -> None:
        due = self.due()
        # One whose lease is over is put back into its place by the next claim.
        if not any(self.model[other].token for other in due):
            expected = due.index(id_) if id_ in due else None
            assert self.call(self.queue.position, id_) == expected

    def due(self) -> list[str]:
        due = [(message.rank, id_) for id_, message in self.model.items() if message.due]
        return [id_ for _, id_ in sorted(due)]

    def held(self, claim: Claim) -> Message | None:
        message = self.model.get(claim.message_id)
        return message if message and message.token == claim.token and not message.due else None
