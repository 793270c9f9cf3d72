import os
import socket
import stat
from pathlib import Path

import pytest

from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, LimitExceeded, NotFound
from mcp_hub.services.roots import Roots, copy_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "sub").mkdir(parents=True)
    (root / "a.csv").write_text("in the root")
    (root / "sub" / "b.csv").write_text("below")
    (tmp_path / "secret.csv").write_text("outside")
    return root


def read(roots: Roots, source: str) -> str:
    with roots.open(source) as (_, file):
        return file.read().decode()


@pytest.mark.parametrize(
    "source", ["a.csv", "./a.csv", "sub/../a.csv", " a.csv ", "{root}/a.csv", "file://{root}/a.csv"]
)
def test_the_ways_to_name_a_file(root: Path, source: str) -> None:
    with Roots([root]).open(source.format(root=root)) as (path, file):
        assert path == (root / "a.csv").resolve()
        assert file.read() == b"in the root"


def test_a_file_uri_is_unquoted_and_may_name_localhost(root: Path) -> None:
    (root / "mit ä.csv").write_text("umlaut")
    assert read(Roots([root]), f"file://localhost{root}/mit%20%C3%A4.csv") == "umlaut"


def test_the_home_folder_is_expanded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert read(Roots([root]), "~/sub/b.csv") == "below"


def test_a_relative_path_is_looked_for_in_every_root(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "c.csv").write_text("in the other")
    roots = Roots([root, other])
    assert read(roots, "a.csv") == "in the root"
    assert read(roots, "c.csv") == "in the other"
    with pytest.raises(NotFound) as error:
        read(roots, "c.cvs")
    assert "Did you mean 'c.csv'?" in str(error.value.hint)
    assert str(root) in str(error.value.hint)
    assert str(other) in str(error.value.hint)


@pytest.mark.parametrize(
    "source", ["../secret.csv", "{root}/../secret.csv", "/etc/passwd", "/", ".."]
)
def test_what_is_outside_is_denied_and_the_roots_are_named(root: Path, source: str) -> None:
    with pytest.raises(Denied) as error:
        read(Roots([root]), source.format(root=root))
    assert str(root) in str(error.value.hint)


def test_outside_it_does_not_show_whether_a_file_exists(root: Path) -> None:
    with pytest.raises(Denied):
        read(Roots([root]), "../no-such-file.csv")


def test_a_root_that_begins_like_another_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "work-other").mkdir()
    (tmp_path / "work-other" / "x.csv").write_text("no")
    with pytest.raises(Denied):
        read(Roots([root]), f"{tmp_path}/work-other/x.csv")


def test_links_inside_are_followed_and_links_outside_denied(root: Path, tmp_path: Path) -> None:
    (root / "inside.csv").symlink_to("sub/b.csv")
    (root / "outside.csv").symlink_to("../secret.csv")
    (root / "way-out").symlink_to(tmp_path)
    (root / "loop.csv").symlink_to("loop.csv")
    (root / "dangling.csv").symlink_to("gone.csv")
    roots = Roots([root])
    assert read(roots, "inside.csv") == "below"
    for source in ("outside.csv", "way-out/secret.csv", "way-out/work/../secret.csv"):
        with pytest.raises(Denied):
            read(roots, source)
    with pytest.raises(InvalidArgument):
        read(roots, "loop.csv")
    with pytest.raises(NotFound):
        read(roots, "dangling.csv")


def test_a_root_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    roots = Roots([tmp_path / "link"])
    assert read(roots, "a.csv") == "in the root"
    assert read(roots, f"{tmp_path}/link/a.csv") == "in the root"
    assert read(roots, f"{root}/a.csv") == "in the root"


@pytest.mark.parametrize("place", ["a.csv", "sub"])
def test_a_link_made_after_the_check_leads_nowhere(
    root: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.csv").write_text("outside")
    resolved = os.path.realpath

    def resolve_then_swap(path: str | Path) -> str:
        found = resolved(path)
        if Path(path).name in ("a.csv", "b.csv") and not (root / place).is_symlink():
            (root / place).rename(tmp_path / "moved")
            (root / place).symlink_to(tmp_path if place == "sub" else tmp_path / "secret.csv")
        return found

    monkeypatch.setattr(os.path, "realpath", resolve_then_swap)
    with pytest.raises(HubError) as error:
        read(Roots([root]), "a.csv" if place == "a.csv" else "sub/b.csv")
    assert not isinstance(error.value, Denied)  # it was let through the check, and failed to open


def test_folders_pipes_and_sockets_are_refused_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = Roots([root])
    with pytest.raises(InvalidArgument, match="is a folder") as error:
        read(roots, "sub")
    assert "b.csv" in str(error.value.hint)
    with pytest.raises(InvalidArgument, match="is a folder"):
        read(roots, str(root))
    os.mkfifo(root / "pipe.csv")
    with pytest.raises(InvalidArgument, match="pipe"):
        read(roots, "pipe.csv")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.csv")
        with pytest.raises(InvalidArgument):
            read(roots, "socket.csv")
    with pytest.raises(InvalidArgument, match="device"):
        read(Roots([Path("/dev")]), "zero")


def test_no_descriptor_stays_open(root: Path) -> None:
    roots = Roots([root])
    descriptors = Path("/dev/fd")
    before = len(list(descriptors.iterdir()))
    for source in ("a.csv", "sub", "gone.csv", "../secret.csv", "sub/gone/x.csv", "a.csv/x"):
        try:
            read(roots, source)
        except HubError:
            continue
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize(
    "source",
    ["", "  ", "a\0.csv", "http://example.org/a.csv", "s3://bucket/a.csv", "file://host/a.csv"],
)
def test_what_is_no_local_path(root: Path, source: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        read(Roots([root]), source)
    assert str(root) in str(error.value.hint)


def test_a_name_that_is_too_long(root: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot be opened"):
        read(Roots([root]), "x" * 5000 + ".csv")


def test_a_path_below_a_file(root: Path) -> None:
    with pytest.raises(NotFound):
        read(Roots([root]), "a.csv/b.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(root: Path) -> None:
    (root / "a.csv").chmod(0)
    try:
        with pytest.raises(Denied, match="may not be read"):
            read(Roots([root]), "a.csv")
    finally:
        (root / "a.csv").chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_without_roots_nothing_is_allowed() -> None:
    for source in ("/etc/passwd", "a.csv"):
        with pytest.raises(Denied, match="outside"):
            read(Roots([]), source)


def test_a_copy_has_a_limit(root: Path, tmp_path: Path) -> None:
    with Roots([root]).open("a.csv") as (path, file):
        copy_file(path, file, tmp_path / "copy", 11)
    assert (tmp_path / "copy").read_text() == "in the root"
    with (
        Roots([root]).open("a.csv") as (path, file),
        pytest.raises(LimitExceeded, match="11 bytes; at most 10"),
    ):
        copy_file(path, file, tmp_path / "other", 10)
    assert not (tmp_path / "other").exists()
