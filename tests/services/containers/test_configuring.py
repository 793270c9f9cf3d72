"""What a container is made of, and how secrets get into it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.containers.port import ContainerConfig, Image
from mcp_hub.adapters.errors import InvalidArgument, NotFound, Unavailable
from mcp_hub.services.containers.configuring import SECRETS_DIR, configure
from mcp_hub.services.containers.policy import parse_spec
from mcp_hub.services.containers.secrets import Secrets


def made(secrets: dict[str, bytes] | None = None, user: str = "", **said: Any) -> ContainerConfig:
    image = Image("sha256:1", (), (), "amd64", user, ("serve",), ("--now",), 1, {})
    spec = parse_spec({"name": "time", "image": "time:1", **said})
    return configure(spec, image, network=None, secrets=secrets or {}, mounts=(), env={"A": "hub"})


def test_the_default_is_tight() -> None:
    config = made()
    assert config == ContainerConfig(
        name="time",
        image="sha256:1",
        entrypoint=("serve",),
        command=("--now",),
        env={"HOME": "/tmp", "A": "hub"},
        stdin=True,
        tmpfs={"/tmp": 64},
    )
    assert (config.user, config.capabilities, config.read_only) == ("65532:65532", (), True)


@pytest.mark.parametrize(
    ("said", "entrypoint", "command"),
    [
        ({"command": ["--later"]}, ("serve",), ("--later",)),
        ({"entrypoint": ["other"]}, ("other",), ()),
        ({"entrypoint": ["other"], "command": ["x"]}, ("other",), ("x",)),
    ],
)
def test_programs_are_as_docker_run_has_them(
    said: dict[str, Any], entrypoint: tuple[str, ...], command: tuple[str, ...]
) -> None:
    config = made(**said)
    assert (config.entrypoint, config.command) == (entrypoint, command)


def test_nothing_to_run_is_said() -> None:
    with pytest.raises(InvalidArgument, match="what to run"):
        made(entrypoint=[], command=[])


def test_secrets_are_files_and_the_environment_says_where() -> None:
    config = made({"TOKEN": b"s3cret"}, env={"A": "own"})
    assert config.files == {"/run/secrets/TOKEN": b"s3cret"}
    assert config.env == {"HOME": "/tmp", "A": "own", "TOKEN_FILE": "/run/secrets/TOKEN"}
    assert "s3cret" not in str(config.env) + str(config.command)


secret = st.binary(max_size=60).map(lambda value: value.replace(b"\0", b"0").rstrip(b"\n"))


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True), secret, max_size=3))
def test_as_variables_they_are_set_by_a_shell_to_any_bytes(secrets: dict[str, bytes]) -> None:
    """Run by a real shell, whose folder of secrets is another's."""
    secrets.pop("_", None)
    config = made(secrets, secrets_as="env", entrypoint=["env"], command=["-0"])
    folder = _FOLDER / str(abs(hash(tuple(secrets.items()))))
    folder.mkdir(exist_ok=True)
    for name, value in secrets.items():
        (folder / name).write_bytes(value)
    assert config.entrypoint is not None
    assert config.command is not None
    command = [
        part.replace(SECRETS_DIR, str(folder)) for part in (*config.entrypoint, *config.command)
    ]
    environment = {"PATH": os.environ["PATH"], **config.env}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    seen = dict(line.split(b"=", 1) for line in done.stdout.split(b"\0") if line)
    for name, value in secrets.items():
        assert seen[name.encode()] == value
    assert all(
        value.decode(errors="replace") not in config.env.values()
        for value in secrets.values()
        if value
    )


_FOLDER: Path


@pytest.fixture(autouse=True, scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _FOLDER
    _FOLDER = tmp_path_factory.mktemp("secrets")


def test_secrets_are_read_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    places = {"token": "env:HUB_TEST_TOKEN", "key": f"file:{file}"}
    secrets = Secrets(places)
    assert secrets.files == [file]
    with pytest.raises(Unavailable, match="no variable HUB_TEST_TOKEN"):
        secrets.read({"T": "token"})
    with pytest.raises(Unavailable, match="cannot be read"):
        secrets.read({"K": "key"})
    monkeypatch.setenv("HUB_TEST_TOKEN", "one")
    file.write_bytes(b"two\n")
    assert secrets.read({"T": "token", "K": "key"}) == {"T": b"one", "K": b"two\n"}
    with pytest.raises(NotFound, match="no secret 'tokn'") as missing:
        secrets.check(["tokn"])
    assert "Did you mean 'token'?" in (missing.value.hint or "")
