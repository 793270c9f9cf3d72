"""What of the machine a container can have, by any path."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.containers.port import Mount
from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, NotFound
from mcp_hub.services.containers.mounting import Mounts, check_apart
from mcp_hub.services.containers.policy import parse_spec
from mcp_hub.services.containers.specs import Volume
from mcp_hub.services.roots import Roots


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root beside what no container may see, with links that lead there."""
    top = tmp_path_factory.mktemp("tree")
    for folder in ("root/data/inner", "root/hub/blobs", "outside"):
        (top / folder).mkdir(parents=True)
    (top / "root/data/file").write_text("x")
    (top / "root/out").symlink_to(top / "outside")
    (top / "root/data/up").symlink_to("..")
    (top / "root/slash").symlink_to("/")
    (top / "root/loop").symlink_to("loop")
    (top / "root/same").symlink_to("data")
    os.mkfifo(top / "root/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "root/engine.sock"))
    return top


@pytest.fixture(scope="module")
def mounts(tree: Path) -> Mounts:
    return Mounts(Roots([tree / "root"]), [tree / "root/hub", tree / "root/engine.sock"])


def test_folders_and_files_below_a_root_are_mounted(tree: Path, mounts: Mounts) -> None:
    volumes = [
        Volume(source="data", target="/data"),
        Volume(source=str(tree / "root/data/file"), target="/file", read_only=False),
        Volume(source="same/inner", target="/inner"),
    ]
    assert mounts.resolve(volumes) == [
        Mount(str(tree / "root/data"), "/data", read_only=True),
        Mount(str(tree / "root/data/file"), "/file", read_only=False),
        Mount(str(tree / "root/data/inner"), "/inner", read_only=True),
    ]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("/", Denied), ("slash", Denied), ("out", Denied), ("../outside", Denied),
        ("/etc", Denied), ("/proc/self", Denied), ("data/up/../../outside", Denied),
        ("hub", Denied), ("hub/blobs", Denied), ("data/up/hub", Denied), ("", InvalidArgument),
        (".", Denied), ("data/up", Denied),
        ("engine.sock", Denied), ("/var/run/docker.sock", Denied),
        ("pipe", InvalidArgument), ("loop", InvalidArgument), ("missing", NotFound),
        ("data/\0", InvalidArgument), ("http://x/data", InvalidArgument),
    ],
)  # fmt: skip
def test_nothing_else_is(mounts: Mounts, source: str, error: type[HubError]) -> None:
    with pytest.raises(error):
        mounts.resolve([Volume(source=source, target="/data")])


@given(
    st.lists(
        st.sampled_from(
            ["..", ".", "data", "out", "slash", "up", "hub", "inner", "same", "etc", "loop", "~"]
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_whatever_is_mounted_lies_in_a_root_and_shows_nothing_of_the_hub(
    parts: list[str], absolute: bool
) -> None:
    tree, mounts = _TREE
    source = "/".join([str(tree / "root"), *parts] if absolute else parts)
    try:
        (found,) = mounts.resolve([Volume(source=source, target="/x")])
    except HubError:
        return
    path = Path(found.source)
    assert path == path.resolve()
    assert path.is_relative_to(tree / "root")
    for kept in (tree / "root/hub", tree / "root/engine.sock"):
        assert not path.is_relative_to(kept)
        assert not kept.is_relative_to(path)


_TREE: tuple[Path, Mounts]


@pytest.fixture(autouse=True, scope="module")
def _shared(tree: Path, mounts: Mounts) -> None:
    """Hypothesis wants no fixture that is a function's."""
    global _TREE
    _TREE = (tree, mounts)


@pytest.mark.parametrize(
    "target", ["/tmp", "/tmp/x", "/run/secrets", "/run", "/proc/x", "/sys", "/a/../b", "/a//b"]
)
def test_targets_that_are_in_the_way_are_refused(mounts: Mounts, target: str) -> None:
    with pytest.raises(InvalidArgument, match="target"):
        mounts.resolve([Volume(source="data", target=target)])


def test_two_of_one_target_are_refused(mounts: Mounts) -> None:
    with pytest.raises(InvalidArgument, match="Two volumes"):
        mounts.resolve([Volume(source="data", target="/a"), Volume(source="same", target="/a")])


def test_a_mount_inside_what_a_container_may_write_is_refused() -> None:
    outer, inner = Mount("/r/a", "/a", read_only=False), Mount("/r/a/b", "/b")
    for mounts, others in (([inner], [outer]), ([outer], [inner]), ([inner, outer], [])):
        with pytest.raises(Denied, match="around it can be written"):
            check_apart(mounts, others)
    check_apart([inner], [Mount("/r/a", "/a")])
    check_apart([outer], [Mount("/r/a", "/elsewhere")])
    check_apart([Mount("/r/c", "/c")], [outer, inner])


def test_a_target_with_an_option_in_it_is_no_target() -> None:
    with pytest.raises(InvalidArgument):
        parse_spec({"name": "xx", "image": "x", "volumes": [{"source": "a", "target": "/a:rw"}]})
