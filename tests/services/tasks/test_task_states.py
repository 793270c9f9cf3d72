"""A task that asks, under any sequence of calls, held against a simple model."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.tasks_schema import tasks as table
from mcp_hub.services.tasks.service import TaskService
from mcp_hub.services.tasks.views import Call

T = TypeVar("T")

KEYS = ("a", "b", "c")
some_keys = st.sets(st.sampled_from(KEYS))


class Asking(RuleBasedStateMachine):
    """One task among all those of the examples."""

    portal: ClassVar[BlockingPortal]
    database: ClassVar[SqliteDatabase]

    @initialize(keys=some_keys.filter(bool))
    def begin(self, keys: set[str]) -> None:
        self.tasks = TaskService(self.database)
        self.answers: dict[str, int] = {}
        self.questions = set(keys)
        self.given = 0
        self.held = False
        self.status = "asking"
        self.id = self.call(self.tasks.ask, "", "tool", self._call(keys)).id

    def call(self, method: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        return self.portal.call(partial(method, *args, **options))

    def _call(self, keys: set[str]) -> Call:
        return Call({}, {key: {"ask": key} for key in keys})

    @rule(keys=some_keys)
    def answer(self, keys: set[str]) -> None:
        self.given += 1
        answers = dict.fromkeys(keys, self.given)
        task = self.call(self.tasks.answer, "", self.id, answers)
        taken = keys & (self.questions - self.answers.keys())
        if self.held or self.status != "asking" or not taken:
            assert task is None
            return
        known = {**self.answers, **dict.fromkeys(taken, self.given)}
        if known.keys() == self.questions:
            assert task is not None
            assert task.call is not None
            assert task.call.answers == known
            self.held = True
        else:
            assert task is None
            self.answers = known

    @rule()
    def lose_the_process(self) -> None:
        past = update(table).where(table.c.id == self.id, table.c.held_until.is_not(None))
        self.call(self.database.write, lambda c: c.execute(past.values(held_until=now_ms())))
        self.held = False

    @rule(keys=some_keys.filter(bool))
    def ask_again(self, keys: set[str]) -> None:
        if self.held:
            self.call(self.tasks.ask_again, self.id, self._call(keys))
            self.questions, self.answers, self.held = set(keys), {}, False

    @rule(breaks=st.booleans())
    def end(self, breaks: bool) -> None:
        if self.held:
            outcome = {"error": {"code": 1}} if breaks else {"result": {"content": []}}
            self.call(self.tasks.end, self.id, **outcome)
            self.status, self.held = "failed" if breaks else "completed", False

    @rule()
    def cancel(self) -> None:
        self.call(self.tasks.cancel, "", self.id)
        if self.status == "asking" and not self.held:
            self.status = "cancelled"

    @invariant()
    def it_is_as_it_should_be(self) -> None:
        task = self.call(self.tasks.get, "", self.id)
        assert task.status == self.status
        if self.status == "asking":
            assert task.held == self.held
            assert task.call is not None
            assert task.call.pending.keys() == self.questions - self.answers.keys()
        assert (task.result is not None) == (self.status == "completed")
        assert (task.error is not None) == (self.status == "failed")


def test_any_sequence_of_calls(tmp_path: Path) -> None:
    with start_blocking_portal() as portal:
        database = SqliteDatabase(tmp_path / "hub.db")
        portal.call(database.upgrade)
        Asking.portal, Asking.database = portal, database
        try:
            run_state_machine_as_test(
                Asking, settings=settings(max_examples=20, stateful_step_count=20, deadline=None)
            )
        finally:
            portal.call(database.close)
