"""The archive of a build: what is in it, what is left out, and what is refused."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.services.containers.building.context import Context, Ignored


def _make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def _archived(folder: Path, *, defaults: bool = True, limit: int = 1 << 20) -> bytes:
    context = Context(limit)
    context.add_folder(folder, Ignored.of(folder, defaults=defaults), "app")
    return context.finish()


def _names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [name.removeprefix("app/") for name in tar.getnames()]


@pytest.mark.parametrize(
    ("patterns", "left_out"),
    [
        ("*.md", ["a.md"]),
        ("**/*.md", ["a.md", "docs/b.md", "docs/deep/c.md"]),
        ("docs", ["docs/b.md", "docs/deep/c.md", "docs/x.txt"]),
        ("/docs/", ["docs/b.md", "docs/deep/c.md", "docs/x.txt"]),
        ("docs/*\n!docs/x.txt", ["docs/b.md", "docs/deep/c.md"]),
        ("docs/**/c.md", ["docs/deep/c.md"]),
        ("docs\n!docs/deep", ["docs/b.md", "docs/x.txt"]),
        ("?.md\n# s.py\n\n", ["a.md"]),
        ("[a-c].md", ["a.md"]),
        ("[^a-c].md", []),
        ("s.py\n!s.py", []),
        ("!s.py\ns.py", ["s.py"]),
        ("s", []),
        ("*", ["a.md", "docs/b.md", "docs/deep/c.md", "docs/x.txt", "s.py"]),
    ],
)
def test_dockerignore_leaves_out_what_docker_would(
    tmp_path: Path, patterns: str, left_out: list[str]
) -> None:
    names = ["a.md", "docs/b.md", "docs/deep/c.md", "docs/x.txt", "s.py"]
    _make(tmp_path, *names)
    (tmp_path / ".dockerignore").write_text(patterns)
    assert set(names) - set(_names(_archived(tmp_path))) == set(left_out)


def test_what_no_image_needs_or_may_have_is_left_out(tmp_path: Path) -> None:
    useless = [
        ".git/config", ".venv/bin/python", "node_modules/x/y.js", "a/__pycache__/b.pyc", "a/b.pyc",
        ".env", "a/.env.local", ".npmrc", "x.egg-info/PKG-INFO",
    ]  # fmt: skip
    _make(tmp_path, "server.py", "a/b.py", "environment.py", *useless)
    assert _names(_archived(tmp_path)) == ["environment.py", "server.py", "a/b.py"]
    # A Dockerfile's own build has what its author left in.
    assert set(useless) <= set(_names(_archived(tmp_path, defaults=False)))


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    first = _make(tmp_path / "1", "b", "a/c", "d.sh")
    second = _make(tmp_path / "2", "d.sh", "a/c", "b")
    for folder in (first, second):
        (folder / "d.sh").chmod(0o700 if folder == first else 0o755)
    os.utime(first / "b", (1, 1))
    assert _archived(first) == _archived(second)
    with tarfile.open(fileobj=io.BytesIO(_archived(first))) as tar:
        modes = {member.name: (member.mode, member.uid, member.mtime) for member in tar}
    assert modes == {"app/b": (0o644, 0, 0), "app/d.sh": (0o755, 0, 0), "app/a/c": (0o644, 0, 0)}


def test_links_stay_within_the_folder(tmp_path: Path) -> None:
    folder = _make(tmp_path / "in", "a/b", "c")
    _make(tmp_path, "secret")
    (folder / "a" / "link").symlink_to("../c")
    (folder / "folder").symlink_to("a")
    os.mkfifo(folder / "pipe")
    with tarfile.open(fileobj=io.BytesIO(_archived(folder))) as tar:
        links = {member.name: member.linkname for member in tar if member.issym()}
        assert "app/pipe" not in tar.getnames()
    assert links == {"app/a/link": "../c", "app/folder": "a"}
    for target in ("../secret", str(tmp_path / "secret"), "..", str(folder / "c")):
        (folder / "bad").unlink(missing_ok=True)
        (folder / "bad").symlink_to(target)
        with pytest.raises(InvalidArgument, match="bad is a symbolic link out of the folder"):
            _archived(folder)
    (folder / ".dockerignore").write_text("bad")
    _archived(folder)


def test_too_large_a_folder_is_refused_by_the_file_that_is_too_much(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 2_000_000)
    with pytest.raises(LimitExceeded, match=r"over 1 MB with big \(2 MB\)") as raised:
        _archived(tmp_path)
    assert ".dockerignore" in str(raised.value.hint)
