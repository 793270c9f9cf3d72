"""Servers of a client's configuration as deployments."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import HubError, InvalidArgument
from mcp_hub.services.containers.importing import deployment_name, imported, read_servers
from mcp_hub.services.containers.policy import parse_spec


def docker(*arguments: str, **env: str) -> dict[str, Any]:
    return {"command": "docker", "args": ["run", *arguments], "env": env}


@pytest.mark.parametrize(
    ("server", "spec"),
    [
        (docker("-i", "--rm", "mcp/time"), {"image": "mcp/time"}),
        (
            docker("--rm", "-i", "-e", "A=1", "--env", "B", "-eC=3", "x:1", "serve", "-v", B="2"),
            {"image": "x:1", "env": {"A": "1", "B": "2", "C": "3"}, "command": ["serve", "-v"]},
        ),
        (
            docker("-v", "/data:/d:ro", "--volume=/w:/w", "x"),
            {
                "image": "x",
                "volumes": [
                    {"source": "/data", "target": "/d", "read_only": True},
                    {"source": "/w", "target": "/w", "read_only": False},
                ],
            },
        ),
        (
            docker("--mount", "type=bind,src=/a,dst=/b,readonly", "x"),
            {"image": "x", "volumes": [{"source": "/a", "target": "/b", "read_only": True}]},
        ),
        (
            docker("-m", "1g", "--cpus=2", "--pids-limit", "64", "--network=none", "x"),
            {"image": "x", "memory_mb": 1024, "cpus": 2.0, "pids": 64, "network": "none"},
        ),
        (docker("--network", "bridge", "x"), {"image": "x", "network": "internal"}),
        (docker("--entrypoint", "node", "x", "a.js"),
         {"image": "x", "entrypoint": ["node"], "command": ["a.js"]}),
        (docker("-u", "1000", "--cap-add=cap_net_raw", "x"),
         {"image": "x", "isolation": {"user": "1000", "capabilities": ["NET_RAW"]}}),
        ({"command": "/usr/bin/podman", "args": ["container", "run", "-it", "x"]}, {"image": "x"}),
    ],
)  # fmt: skip
def test_docker_run(server: dict[str, Any], spec: dict[str, Any]) -> None:
    found = imported("srv", server, {})
    assert found.refused is None
    assert found.spec == {"name": "srv", **spec}
    parse_spec(found.spec)


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (docker("--privileged", "x"), "no container is privileged"),
        (docker("--network=host", "x"), "--network host is refused"),
        (docker("-p", "80:80", "x"), "no port is published"),
        (docker("-v", "named:/data", "x"), "only folders and files"),
        (docker("--device=/dev/kvm", "x"), "no container has devices"),
        (docker("--security-opt", "seccomp=unconfined", "x"), "stay on"),
        (docker("--unheard-of", "x"), "not known here"),
        (docker("-e"), "has no value"),
        (docker("-i"), "names no image"),
        ({"command": "docker", "args": ["compose", "up"]}, "no `docker run`"),
        ({"command": "npx", "args": ["-y", "@acme/server"]}, "--image srv=IMAGE"),
        ({"url": "https://x/mcp"}, "runs elsewhere already"),
        ({"args": []}, "no command"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(server: dict[str, Any], reason: str) -> None:
    found = imported("srv", server, {})
    assert found.spec is None
    assert reason in (found.refused or "")


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("uvx", ["mcp-server-time", "--local-timezone", "UTC"], ["--local-timezone", "UTC"]),
        ("npx", ["-y", "@acme/fs", "/data"], ["/data"]),
        ("uv", ["run", "--directory", "/srv", "server", "--fast"], ["--fast"]),
        ("npx", ["-y", "@acme/fs"], None),
    ],
)
def test_a_launcher_is_replaced_by_an_image(
    command: str, arguments: list[str], expected: list[str] | None
) -> None:
    server = {"command": command, "args": arguments, "env": {"API_TOKEN": "t"}}
    found = imported("My Server", server, {"My Server": "acme/x:1"})
    assert found.spec is not None
    assert found.spec.get("command") == expected
    assert (found.name, found.spec["image"]) == ("my-server", "acme/x:1")
    assert any("API_TOKEN would be stored" in note for note in found.notes)


@given(st.text(max_size=60))
def test_any_name_becomes_one(name: str) -> None:
    parse_spec({"name": deployment_name(name), "image": "x"})


flags = st.sampled_from(
    ["-i", "--rm", "-e", "-v", "--mount", "-m", "--cpus", "--network", "x:1", "A=b", "/a:/b", "9z",
     "--privileged", "-", "--", "--env=", "-v=/a:/b", "type=bind,src=/a", "--pull", "--user="]
)  # fmt: skip


@given(st.lists(flags | st.text(max_size=6), max_size=8))
def test_any_command_line_becomes_a_spec_or_a_reason(arguments: list[str]) -> None:
    found = imported("srv", docker(*arguments), {})
    assert (found.spec is None) != (found.refused is None)
    if found.spec is not None:
        try:
            spec = parse_spec(found.spec)
        except HubError:
            return
        assert spec.isolation.writable_root is False


@pytest.mark.parametrize("config", [None, [], {"mcpServers": 5}, {"mcpServers": {"a": 5}}, {}])
def test_what_holds_no_servers_is_refused(config: object) -> None:
    with pytest.raises(InvalidArgument):
        read_servers(config)
    assert read_servers({"servers": {"a": {"command": "x"}}}) == {"a": {"command": "x"}}
