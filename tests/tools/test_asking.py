import pytest
from mcp.types import ClientCapabilities

from mcp_hub.tools.asking import can_ask


@pytest.mark.parametrize(
    ("capabilities", "able"),
    [
        (None, False),
        ({}, False),
        ({"sampling": {}}, False),
        ({"elicitation": {}}, True),
        ({"elicitation": {"form": {}}}, True),
        ({"elicitation": {"form": {}, "url": {}}}, True),
        ({"elicitation": {"url": {}}}, False),
    ],
)
def test_forms_are_asked_of_clients_that_show_them(
    capabilities: dict[str, object] | None, able: bool
) -> None:
    known = None if capabilities is None else ClientCapabilities.model_validate(capabilities)
    assert can_ask(known) is able
