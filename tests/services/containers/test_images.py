"""Which images may run."""

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.containers.port import Image
from mcp_hub.adapters.errors import Denied, InvalidArgument, NotFound, Unavailable
from mcp_hub.services.containers.images import ImageRules, parse_image, verify

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("python", ("docker.io/library/python:latest", "library/python:latest", "python:latest")),
        ("acme/x:1", ("docker.io/acme/x:1", "acme/x:1", "acme/x:1")),
        ("ghcr.io/acme/x:1", ("ghcr.io/acme/x:1",)),
        ("localhost:5000/x", ("localhost:5000/x:latest",)),
        (f"acme/x@{DIGEST}", ("docker.io/acme/x", "acme/x", "acme/x")),
        ("a" * 64, ()),
    ],
)
def test_a_reference_is_known_by_its_names(text: str, names: tuple[str, ...]) -> None:
    assert parse_image(text).names == names


@pytest.mark.parametrize(
    "text", ["", "a b", "a:b:c", "UPPER/x", "x@sha256:12", "../x", "a//b", "x:", "-x", "https://x"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no image"):
        parse_image(text)


@given(st.text(alphabet=string.ascii_letters + string.digits + "./:@-_ ~$\n", max_size=40))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = parse_image(text)
    except InvalidArgument:
        return
    assert ".." not in found.path
    assert found.id or found.digest or found.tag


@pytest.mark.parametrize(
    ("allowed", "text", "runs", "pulled"),
    [
        ([], "python:3.12", True, False),
        ([], f"python@{DIGEST}", True, True),
        ([], DIGEST, True, False),
        (["python:*"], "python:3.12", True, True),
        (["python"], "python:3.12", True, True),
        (["python:3.12"], "python:3.13", False, False),
        (["python"], "docker.io/library/python:3", True, True),
        (["python"], "evil.example/python:3", False, False),
        (["acme/*"], "acme/x:1", True, True),
        (["acme/*"], "evil.example/acme/x:1", False, False),
        (["ghcr.io/acme/*"], "ghcr.io/acme/x", True, True),
        (["ghcr.io/acme/*"], "ghcr.io.evil.example/acme/x", False, False),
        (["ghcr.io/acme/*"], f"other/x@{DIGEST}", True, True),
    ],
)
def test_rules(allowed: list[str], text: str, runs: bool, pulled: bool) -> None:
    rules, reference = ImageRules(allowed), parse_image(text)

    def may(check: object) -> bool:
        try:
            check(reference)  # type: ignore[operator]
        except (Denied, NotFound):
            return False
        return True

    assert may(rules.check) == runs
    assert (runs and may(rules.check_pull)) == pulled
    assert not may(ImageRules(allowed, pull=False).check_pull)


def image(*digests: str) -> Image:
    return Image("sha256:1", (), digests, "amd64", "", (), (), 1, {})


async def test_without_cosign_the_setting_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable, match="cosign is not on the hub's PATH"):
        await verify(image(f"acme/x@{DIGEST}"), parse_image("acme/x"), "key.pub")


async def test_cosign_is_asked_about_what_was_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "cosign"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/said\ncase "$*" in *bad*) echo no match >&2; exit 1;; '
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    await verify(image(f"acme/x@{DIGEST}"), parse_image("acme/x:1"), "/key.pub")
    said = (tmp_path / "said").read_text().split()
    assert said == ["verify", "--key", "/key.pub", "--", f"docker.io/acme/x@{DIGEST}"]
    with pytest.raises(Denied, match="no match"):
        await verify(image(f"acme/bad@{DIGEST}"), parse_image("acme/bad"), "/key.pub")
    with pytest.raises(Denied, match="not pulled from a registry"):
        await verify(image(f"acme/y@{DIGEST}"), parse_image("acme/x"), "/key.pub")
