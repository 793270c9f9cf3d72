"""The names and URIs under which a deployment's tools and resources stand among the hub's own."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.containers.catalog import digests
from mcp_hub.services.containers.exposing import (
    container_in,
    exposed_name,
    exposed_template,
    exposed_uri,
    own_uri,
    renamed,
)
from mcp_hub.services.containers.specs import ContainerSpec
from mcp_hub.services.containers.store import Deployment

names = st.from_regex(r"[a-z][a-z0-9-]{0,38}[a-z0-9]", fullmatch=True)


def deployment(**catalog: list[dict[str, Any]]) -> Deployment:
    return Deployment(
        name="srv", revision=1, enabled=True,
        spec=ContainerSpec(name="srv", image="x", expose=True), image_id="sha256:1", weakened=(),
        catalog=catalog, approved=digests(catalog), failures=0, error=None, retry_at=None,
        updated_at=0,
    )  # fmt: skip


@given(st.lists(st.tuples(names, st.text(min_size=1, max_size=100)), unique=True, max_size=20))
def test_every_name_is_one_that_clients_take_and_stands_for_one_tool(
    tools: list[tuple[str, str]],
) -> None:
    shown = [exposed_name(container, tool) for container, tool in tools]
    assert len(set(shown)) == len(tools)
    for name, (container, _) in zip(shown, tools, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
        assert name.partition("__")[0] == container


@given(names, st.text(min_size=1))
def test_a_uri_leads_back_to_its_server(container: str, uri: str) -> None:
    shown = exposed_uri(container, uri)
    assert container_in(shown) == container
    assert re.fullmatch(r"containers://[a-z0-9-]+/resources/[A-Za-z0-9._~%-]+", shown)


@pytest.mark.parametrize(
    ("uri", "own"),
    [
        (exposed_uri("srv", "file:///a b?c=d#e"), "file:///a b?c=d#e"),
        (exposed_uri("srv", "note://of/Ada"), "note://of/Ada"),
        (exposed_template("srv", "note://of/{who}").replace("{who}", "a%2Fb"), "note://of/a%2Fb"),
        (exposed_template("srv", "tree://{+path}").replace("{+path}", "a/b"), "tree://a/b"),
        (exposed_uri("srv", "other://of/Ada"), None),
        ("containers://srv/logs", None),
    ],
)
def test_resources_are_found_by_their_exposed_uris(uri: str, own: str | None) -> None:
    found = deployment(
        resources=[{"uri": "file:///a b?c=d#e", "name": "a"}],
        resourceTemplates=[
            {"uriTemplate": "note://of/{who}", "name": "notes"},
            {"uriTemplate": "tree://{+path}", "name": "tree"},
            {"uriTemplate": "broken://{", "name": "broken"},
        ],
    )
    assert own_uri(found, uri) == own


def test_only_names_that_differ_are_told() -> None:
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("plain", "a.b", "_x")]
    assert renamed(deployment(tools=tools)) == {"a.b": exposed_name("srv", "a.b")}
    assert exposed_name("srv", "_x") == "srv___x"
