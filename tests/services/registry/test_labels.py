import pytest

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound
from mcp_hub.services.registry.service import RegistryService

from .conftest import Add


async def test_tags_are_set_changed_and_removed(registry: RegistryService, add: Add) -> None:
    await add("iris", tags={"a": "1", "b": "2"})
    view = await registry.tag("iris", {"a": "3", "b": None, "c": "4", "never": None})
    assert view.tags == {"a": "3", "c": "4"}
    assert (await registry.get("iris:1")).tags == {"a": "3", "c": "4"}


@pytest.mark.parametrize(
    ("tags", "error"),
    [
        ({"": "x"}, InvalidArgument),
        ({"a b": "x"}, InvalidArgument),
        ({"a" * 65: "x"}, InvalidArgument),
        ({"a": "x" * 501}, LimitExceeded),
        ({f"k{n}": "x" for n in range(51)}, LimitExceeded),
    ],
)
async def test_limits(
    registry: RegistryService,
    add: Add,
    tags: dict[str, str | None],
    error: type[Exception],
) -> None:
    await add("iris", tags={"a": "1"})
    with pytest.raises(error):
        await registry.tag("iris", tags)
    assert (await registry.get("iris")).tags == {"a": "1"}


async def test_a_version_that_is_gone_has_no_tags(registry: RegistryService, add: Add) -> None:
    await add("iris")
    await registry.delete("iris")
    with pytest.raises(NotFound, match="was deleted"):
        await registry.tag("iris:1", {"a": "1"})
