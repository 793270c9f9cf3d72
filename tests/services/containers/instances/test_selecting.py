"""Which instance a call goes to, whatever the rows."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.containers.port import Container
from mcp_hub.services.containers.instances import selecting
from mcp_hub.services.containers.instances.rows import Deployment, Holder, Instance
from mcp_hub.services.containers.instances.selecting import Claim, TakeOver, Use
from mcp_hub.services.containers.specs import ContainerSpec

HERE, THERE = Holder("here", "unix:/here", ""), Holder("there", "unix:/there", "")
DEPLOYMENT = Deployment("x1", 2, True, 1000)


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec(name="x1", image="x", **fields)


def instance(id_: str = "a", **fields: Any) -> Instance:
    known = {
        "name": "x1", "revision": 2, "slot": 0, "session": None, "state": "ready",
        "engine_id": None, "server": None, "holder": HERE, "created_at": 2000, "used_at": 2000,
    }  # fmt: skip
    return Instance(id=id_, **(known | fields))


@st.composite
def instances(draw: st.DrawFn) -> list[Instance]:
    return [
        instance(
            str(number),
            revision=draw(st.integers(1, 3)),
            slot=None if (session := draw(st.sampled_from([None, "s", "t"]))) else number,
            session=session,
            state=draw(st.sampled_from(["starting", "ready", "stopping"])),
            holder=draw(st.sampled_from([None, HERE, THERE])),
            created_at=draw(st.sampled_from([500, 1000, 2000])),
        )
        for number in range(draw(st.integers(0, 8)))
    ]


@given(
    instances(),
    st.sampled_from(["shared", "per_session"]),
    st.dictionaries(st.integers(0, 8).map(str), st.integers(0, 5)),
)
def test_a_call_goes_only_where_it_may(
    found: list[Instance], state: Any, calls: dict[str, int]
) -> None:
    choice = selecting.select(
        DEPLOYMENT, spec(state=state), found, session="s", here="here", calls=calls
    )
    mine = [
        one
        for one in found
        if one.revision == 2 and one.created_at >= 1000 and one.state != "stopping"
        and one.session == ("s" if state == "per_session" else None)
    ]  # fmt: skip
    living = [one for one in mine if one.holder]
    match choice:
        case Use(one):
            assert one in living
            ready = [other for other in living if other.state == "ready"]
            assert one.state == "ready" or not ready
            among = ready or living
            assert calls.get(one.id, 0) == min(calls.get(other.id, 0) for other in among)
        case TakeOver(one):
            assert one in mine
            assert not living
        case Claim():
            assert not mine


@given(instances(), st.integers(1, 4), st.sampled_from(["on_demand", "prewarmed", "always_on"]))
def test_what_is_missing_is_what_no_slot_has(
    found: list[Instance], replicas: int, strategy: Any
) -> None:
    kept = spec(strategy=strategy, replicas=replicas)
    slots = {one.slot for one in found if one.revision == 2}
    want = 0 if strategy == "on_demand" else len(set(range(replicas)) - slots)
    assert selecting.missing(DEPLOYMENT, kept, found) == want
    assert selecting.missing(Deployment("x1", 2, False, 1000), kept, found) == 0
    assert selecting.missing(Deployment("x1", 2, True, 1000, wait_s=1), kept, found) == 0


def test_of_those_that_are_equally_busy_one_that_is_held_here_is_asked() -> None:
    found = [instance("a", holder=THERE), instance("b"), instance("c", holder=THERE)]
    for _ in range(10):
        assert selecting.select(
            DEPLOYMENT, spec(), found, session=None, here="here", calls={}
        ) == Use(found[1])


def test_what_is_not_in_force_is_not_current() -> None:
    assert selecting.is_current(DEPLOYMENT, instance())
    assert not selecting.is_current(None, instance())
    assert not selecting.is_current(Deployment("x1", 2, False, 1000), instance())
    assert not selecting.is_current(Deployment("x1", 3, True, 1000), instance())
    # Deployed anew after it was removed.
    assert not selecting.is_current(Deployment("x1", 2, True, 3000), instance())


def test_an_orphan_is_one_without_a_row() -> None:
    found = [
        Container(id_, id_, "x", {"i": row} if row else {}, "running")
        for id_, row in (("1", "a"), ("2", "b"), ("3", None))
    ]
    assert [one.id for one in selecting.orphans(found, {"a"}, "i")] == ["2", "3"]
