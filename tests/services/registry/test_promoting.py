import anyio
import pytest

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound
from mcp_hub.services.pages import encode_cursor
from mcp_hub.services.registry.service import RegistryService

from .conftest import Add, promote

pytestmark = pytest.mark.usefixtures("iris")


async def test_the_alias_moves_and_tells_where_it_was(registry: RegistryService) -> None:
    moved = await promote(registry, "iris:3")
    assert (moved.promoted, moved.version, moved.previous, moved.gates) == (True, 3, 2, [])
    back = await promote(registry, f"iris:{moved.previous}")
    assert (back.version, back.previous) == (2, 3)
    assert (await registry.get("iris@champion")).version == 2


async def test_a_gate_that_fails_keeps_the_alias_and_the_decision(
    registry: RegistryService,
) -> None:
    decision = await registry.promote(
        "iris:3",
        "champion",
        gates={"min_metric": {"accuracy": 0.9}, "better_than_current": "accuracy"},
        reason="Fresh data",
        decided_by="tester",
    )
    assert [gate.passed for gate in decision.gates] == [True, False]
    assert (decision.promoted, decision.version, decision.previous) == (False, 3, 2)
    assert (await registry.get("iris@champion")).version == 2
    [newest, _] = (await registry.promotions("iris")).items
    assert newest == decision
    assert newest.reason == "Fresh data"


async def test_an_alias_may_name_what_is_promoted(registry: RegistryService) -> None:
    decision = await promote(registry, "iris@champion", "production")
    assert (decision.version, decision.previous) == (2, None)
    assert (await registry.get("iris")).aliases == []
    assert (await registry.get("iris:2")).aliases == ["champion", "production"]


async def test_promoting_what_is_there_is_recorded(registry: RegistryService) -> None:
    again = await registry.promote(
        "iris:2", "champion", gates={"better_than_current": "accuracy"}, decided_by="tester"
    )
    assert (again.promoted, again.previous) == (True, 2)
    assert len((await registry.promotions("iris")).items) == 2


@pytest.mark.parametrize("alias", ["latest", "", "1", "a b", "a" * 65])
async def test_other_aliases_are_refused(registry: RegistryService, alias: str) -> None:
    with pytest.raises(InvalidArgument, match="alias"):
        await promote(registry, "iris:3", alias)
    assert len((await registry.promotions("iris")).items) == 1


async def test_what_is_not_there_cannot_be_promoted(registry: RegistryService) -> None:
    await registry.delete("iris:3")
    for reference in ("iris:3", "iris:9", "iris@best", "irsi"):
        with pytest.raises(NotFound):
            await promote(registry, reference, "best")
    assert len((await registry.promotions("iris")).items) == 1


async def test_a_reason_has_a_limit(registry: RegistryService) -> None:
    with pytest.raises(LimitExceeded, match="The reason has 1001 characters"):
        await registry.promote("iris:3", "best", reason="a" * 1001, decided_by="tester")


async def test_concurrent_promotions_are_decided_one_after_the_other(
    registry: RegistryService, add: Add
) -> None:
    numbers = [await add("iris", accuracy=0.96 + n / 1000) for n in range(10)]

    async def challenge(number: int) -> None:
        await registry.promote(
            f"iris:{number}",
            "champion",
            gates={"better_than_current": "accuracy"},
            decided_by=str(number),
        )

    async with anyio.create_task_group() as tasks:
        for number in numbers:
            tasks.start_soon(challenge, number)
    assert (await registry.get("iris@champion")).version == numbers[-1]
    decided = (await registry.promotions("iris")).items[:-1]
    at = 2
    for decision in reversed(decided):
        assert decision.previous == at
        assert decision.promoted == (decision.version > at)
        at = decision.version if decision.promoted else at
    assert at == numbers[-1]


async def test_decisions_come_in_pages_newest_first(registry: RegistryService) -> None:
    for version in (1, 3, 1, 3):
        await promote(registry, f"iris:{version}")
    seen: list[int] = []
    cursor = None
    while True:
        page = await registry.promotions("iris", limit=2, cursor=cursor)
        seen += [decision.version for decision in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == [3, 1, 3, 1, 2]
    with pytest.raises(InvalidArgument, match="not a cursor of this list"):
        await registry.promotions("iris", cursor=encode_cursor("iris"))
    with pytest.raises(NotFound):
        await registry.promotions("irsi")


async def test_a_person_is_asked_only_where_nothing_else_is_lacking(
    registry: RegistryService, add: Add
) -> None:
    await add("roses", accuracy=0.9)
    wanted = {"human_approval": True, "min_metric": {"accuracy": 0.8}}
    judged = await registry.lacks_approval("roses", "champion", gates=wanted)
    assert judged is not None
    assert (judged.view.version, judged.previous) == (1, None)
    for gates in (
        None,
        {"min_metric": {"accuracy": 0.8}},
        {"human_approval": True, "min_metric": {"accuracy": 0.95}},
    ):
        assert await registry.lacks_approval("roses", "champion", gates=gates) is None
    # Asking decides nothing.
    assert (await registry.promotions("roses")).items == []
