"""What a deployment may ask for, whatever it says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.containers.port import Image
from mcp_hub.adapters.errors import Denied, InvalidArgument, LimitExceeded
from mcp_hub.services.containers.configuring import configure
from mcp_hub.services.containers.policy import (
    CAPABILITIES,
    Limits,
    check,
    parse_spec,
    unprivileged,
    weakened,
)

IMAGE = Image("sha256:1", (), (), "amd64", "", ("serve",), (), 1, {})
PLAIN: dict[str, Any] = {"name": "time", "image": "time:1"}

isolations = st.fixed_dictionaries(
    {},
    optional={
        "capabilities": st.lists(
            st.sampled_from([*CAPABILITIES, "SYS_ADMIN", "CAP_NET_RAW", "NET_ADMIN", "ALL"]),
            max_size=3,
        ),
        "writable_root": st.booleans(),
        "new_privileges": st.booleans(),
        "user": st.sampled_from(["0", "0:0", "root", "1000", "1000:0", "1000:1000", "app", "00"])
        | st.text(max_size=8),
    },
)


@given(isolations, st.sampled_from(["", "0", "root", "app", "1000", "1000:1000", "1:0"]))
def test_only_an_admin_gets_less_isolation(isolation: dict[str, Any], user: str) -> None:
    """Whoever is no admin gets a container as tight as the default, or none."""
    spec = parse_spec(PLAIN | {"isolation": isolation})
    try:
        ways = check(spec, Limits(), admin=False)
    except Denied:
        return
    image = Image("sha256:1", (), (), "amd64", user, ("serve",), (), 1, {})
    made = configure(spec, image, network=None, secrets={}, mounts=(), env={})
    assert ways == []
    assert (made.capabilities, made.read_only, made.new_privileges) == ((), True, False)
    uid, _, gid = made.user.partition(":")
    assert int(uid) > 0
    assert int(gid) > 0


@given(isolations)
def test_what_an_admin_weakens_is_told(isolation: dict[str, Any]) -> None:
    spec = parse_spec(PLAIN | {"isolation": isolation})
    default = configure(parse_spec(PLAIN), IMAGE, network=None, secrets={}, mounts=(), env={})
    asked = {name.removeprefix("CAP_") for name in isolation.get("capabilities", ())}
    if not asked <= CAPABILITIES:
        with pytest.raises(Denied, match="never given"):
            check(spec, Limits(), admin=True)
        return
    ways = check(spec, Limits(), admin=True)
    made = configure(spec, IMAGE, network=None, secrets={}, mounts=(), env={})
    assert set(made.capabilities) <= CAPABILITIES
    assert ways == weakened(spec)
    if not ways:
        assert (made.capabilities, made.read_only, made.new_privileges) == (
            default.capabilities, default.read_only, default.new_privileges,
        )  # fmt: skip


@given(st.text(max_size=12))
def test_a_user_is_unprivileged_only_by_numbers_that_are_not_root(user: str) -> None:
    found = unprivileged(user)
    if found is not None:
        assert all(0 < int(number) < 2**31 for number in found.split(":"))
        assert unprivileged(found) == found


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"privileged": True}, "no container is privileged"),
        ({"network_mode": "host"}, "never the machine's own"),
        ({"isolation": {"privileged": True}}, "no container is privileged"),
        ({"memry_mb": 5}, "'memory_mb'"),
        ({"isolation": {"usr": "x"}}, "'user'"),
    ],
)
def test_what_is_not_offered_is_said(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_spec(PLAIN | said)
    assert complaint in (refused.value.hint or "")


@pytest.mark.parametrize(
    "said",
    [
        {"cpus": 5}, {"memory_mb": 5000}, {"replicas": 9},
        {"state": "per_session", "max_sessions": 9},
        {"state": "per_session", "strategy": "prewarmed", "max_sessions": 5, "replicas": 5},
    ],
)  # fmt: skip
def test_limits_hold(said: dict[str, Any]) -> None:
    limits = Limits(cpus=4, memory_mb=4096, containers=8)
    with pytest.raises(LimitExceeded, match="at most"):
        check(parse_spec(PLAIN | said), limits, admin=True)


@given(st.dictionaries(st.text(max_size=12), st.none() | st.integers() | st.text(), max_size=4))
def test_what_is_no_spec_is_refused_and_nothing_else_happens(said: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        parse_spec(said)
