"""Versions, aliases and decisions under any sequence of calls, held against a simple model."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Conflict, NotFound
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.registry.store import NewVersion, add_version

from .conftest import SIGNATURE

T = TypeVar("T")

ALIASES = ("champion", "challenger")
accuracies = st.sampled_from([0.8, 0.9, None])
aliases = st.sampled_from(ALIASES)
# Few, so that what is named is mostly there.
numbers = st.integers(1, 4)


@dataclass
class Version:
    accuracy: float | None
    deleted: bool = False


class Registry(RuleBasedStateMachine):
    """One model of a registry that all examples share, each under a name of its own."""

    portal: ClassVar[BlockingPortal]
    database: ClassVar[SqliteDatabase]
    registry: ClassVar[RegistryService]
    serial: ClassVar[Iterator[int]] = count()

    @initialize(first=st.lists(accuracies, max_size=3))
    def begin(self, first: list[float | None]) -> None:
        self.name = f"model-{next(self.serial)}"
        self.versions: dict[int, Version] = {}
        self.aliases: dict[str, int] = {}
        self.decisions: list[tuple[str, int, int | None, bool]] = []
        for accuracy in first:
            self.add(accuracy)

    def call(self, method: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        return self.portal.call(partial(method, *args, **options))

    def live(self) -> list[int]:
        return [number for number, version in self.versions.items() if not version.deleted]

    def resolve(self, reference: int | str | None) -> int | None:
        """The version that a number, an alias or the plain name stands for."""
        if isinstance(reference, str):
            return self.aliases.get(reference)
        if reference is None:
            return max(self.live(), default=None)
        return reference if reference in self.live() else None

    def spell(self, reference: int | str | None) -> str:
        if reference is None:
            return self.name
        return f"{self.name}{'@' if isinstance(reference, str) else ':'}{reference}"

    @rule(accuracy=accuracies)
    def add(self, accuracy: float | None) -> None:
        metrics = {} if accuracy is None else {"accuracy": accuracy}
        new = NewVersion(self.name, "onnx", SIGNATURE, [], "tester", metrics)
        number = self.call(self.database.write, partial(add_version, new=new))
        assert number == len(self.versions) + 1
        self.versions[number] = Version(accuracy)

    @rule(
        reference=st.none() | aliases | numbers,
        alias=aliases,
        at_least=st.sampled_from([None, None, 0.9]),
        better=st.booleans(),
    )
    def promote(
        self, reference: int | str | None, alias: str, at_least: float | None, better: bool
    ) -> None:
        gates: dict[str, Any] = {"same_signature": True}
        if at_least is not None:
            gates["min_metric"] = {"accuracy": at_least}
        if better:
            gates["better_than_current"] = "accuracy"
        number = self.resolve(reference)
        promote = partial(
            self.registry.promote, self.spell(reference), alias, gates=gates, decided_by="tester"
        )
        if number is None:
            with pytest.raises(NotFound):
                self.call(promote)
            return
        decision = self.call(promote)
        previous = self.aliases.get(alias)
        passed = self.passes(number, previous, at_least, better)
        assert (decision.version, decision.previous) == (number, previous)
        assert decision.promoted == passed == all(gate.passed for gate in decision.gates)
        self.decisions.append((alias, number, previous, passed))
        if passed:
            self.aliases[alias] = number

    def passes(
        self, number: int, previous: int | None, at_least: float | None, better: bool
    ) -> bool:
        accuracy = self.versions[number].accuracy
        if at_least is not None and (accuracy is None or accuracy < at_least):
            return False
        if not better:
            return True
        if accuracy is None:
            return False
        if previous is None or previous == number:
            return True
        standing = self.versions[previous].accuracy
        return standing is not None and accuracy > standing

    @precondition(lambda self: self.versions)
    @rule(reference=st.none() | numbers, force=st.booleans())
    def delete(self, reference: int | None, force: bool) -> None:
        delete = partial(self.registry.delete, self.spell(reference), force=force)
        if reference is not None and reference not in self.versions:
            with pytest.raises(NotFound):
                self.call(delete)
            return
        gone = [n for n in self.live() if reference in (None, n)]
        pointing = [alias for alias, number in self.aliases.items() if number in gone]
        if pointing and not force:
            with pytest.raises(Conflict) as refused:
                self.call(delete)
            assert all(f"{self.name}@{alias}" in refused.value.message for alias in pointing)
            return
        told = self.call(delete).deleted
        assert set(told) == {self.spell(part) for part in (*pointing, *gone)}
        for alias in pointing:
            del self.aliases[alias]
        for number in gone:
            self.versions[number].deleted = True

    @precondition(lambda self: self.versions)
    @rule(alias=aliases)
    def remove_alias(self, alias: str) -> None:
        delete = partial(self.registry.delete, self.spell(alias))
        if alias not in self.aliases:
            with pytest.raises(NotFound):
                self.call(delete)
            return
        assert self.call(delete).deleted == [self.spell(alias)]
        del self.aliases[alias]

    @precondition(lambda self: self.versions)
    @rule(reference=st.none() | numbers)
    def restore(self, reference: int | None) -> None:
        restore = partial(self.registry.delete, self.spell(reference), restore=True)
        if reference is not None and reference not in self.versions:
            with pytest.raises(NotFound):
                self.call(restore)
            return
        back = [n for n, v in self.versions.items() if v.deleted and reference in (None, n)]
        assert self.call(restore).restored == [self.spell(number) for number in back]
        for number in back:
            self.versions[number].deleted = False

    @invariant()
    def every_reference_gives_what_the_model_says(self) -> None:
        for reference in (None, *ALIASES, *range(1, len(self.versions) + 2)):
            number = self.resolve(reference)
            if number is None:
                with pytest.raises(NotFound):
                    self.call(self.registry.get, self.spell(reference))
                continue
            view = self.call(self.registry.get, self.spell(reference))
            assert view.version == number
            assert view.aliases == sorted(a for a, n in self.aliases.items() if n == number)

    @invariant()
    def the_list_says_the_same(self) -> None:
        items = self.call(self.registry.list, name=self.name).items
        found = [model for model in items if model.name == self.name]
        live = self.live()
        assert [(m.version, m.versions, m.aliases) for m in found] == (
            [(max(live), len(live), self.aliases)] if live else []
        )

    def teardown(self) -> None:
        if not self.versions:
            return
        kept = self.call(self.registry.promotions, self.name, limit=200).items
        assert [(p.alias, p.version, p.previous, p.promoted) for p in kept] == self.decisions[::-1]


def test_any_sequence_of_calls(tmp_path: Path) -> None:
    with start_blocking_portal() as portal:
        database = SqliteDatabase(tmp_path / "hub.db")
        bus = DatabaseBus(database)
        portal.call(database.upgrade)
        Registry.portal, Registry.database = portal, database
        Registry.registry = RegistryService(
            database, FileBlobStore(tmp_path / "blobs"), bus, roots=[]
        )
        try:
            run_state_machine_as_test(
                Registry, settings=settings(max_examples=25, stateful_step_count=25, deadline=None)
            )
        finally:
            portal.call(bus.close)
            portal.call(database.close)
