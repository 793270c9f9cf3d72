import pytest

from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound
from mcp_hub.services.registry.service import RegistryService

from .conftest import Add, promote

pytestmark = pytest.mark.usefixtures("iris")


async def test_a_version_goes_and_comes_back(registry: RegistryService) -> None:
    gone = await registry.delete("iris:3")
    assert gone.deleted == ["iris:3"]
    assert "model_delete(model='iris:3', restore=true)" in gone.note
    assert (await registry.get("iris")).version == 2
    with pytest.raises(NotFound, match="iris:3 was deleted") as absent:
        await registry.get("iris:3")
    assert "restore=true" in (absent.value.hint or "")
    back = await registry.delete("iris:3", restore=True)
    assert (back.deleted, back.restored) == ([], ["iris:3"])
    assert (await registry.get("iris")).version == 3


@pytest.mark.parametrize("reference", ["iris", "iris:2"])
async def test_an_alias_protects_what_it_points_at(
    registry: RegistryService, reference: str
) -> None:
    await promote(registry, "iris:2", "best")
    with pytest.raises(Conflict, match="iris@best, iris@champion point at") as refused:
        await registry.delete(reference)
    assert "force=true" in (refused.value.hint or "")
    assert (await registry.list()).items[0].versions == 3


async def test_force_removes_the_aliases_too(registry: RegistryService) -> None:
    gone = await registry.delete("iris:2", force=True)
    assert gone.deleted == ["iris@champion", "iris:2"]
    with pytest.raises(NotFound, match="no alias 'champion'"):
        await registry.get("iris@champion")
    await registry.delete("iris:2", restore=True)
    assert (await registry.get("iris:2")).aliases == []


async def test_an_alias_alone(registry: RegistryService) -> None:
    gone = await registry.delete("iris@champion")
    assert gone.deleted == ["iris@champion"]
    assert "iris:2, is still there" in gone.note
    assert (await registry.get("iris:2")).aliases == []
    with pytest.raises(NotFound, match="no alias 'champion'"):
        await registry.delete("iris@champion")


async def test_a_whole_model(registry: RegistryService, add: Add) -> None:
    await add("wine")
    gone = await registry.delete("iris", force=True)
    assert gone.deleted == ["iris@champion", "iris:1", "iris:2", "iris:3"]
    assert await registry.names() == ["wine"]
    assert [model.name for model in (await registry.list()).items] == ["wine"]
    with pytest.raises(NotFound, match="Every version of 'iris' was deleted") as absent:
        await registry.get("iris")
    assert "model_delete(model='iris', restore=true)" in (absent.value.hint or "")
    with pytest.raises(NotFound, match="no version 9") as absent:
        await registry.get("iris:9")
    assert absent.value.hint == "All its versions were deleted."
    back = await registry.delete("iris", restore=True)
    assert back.restored == ["iris:1", "iris:2", "iris:3"]
    assert await registry.names() == ["iris", "wine"]


async def test_twice_is_no_error(registry: RegistryService) -> None:
    await registry.delete("iris:3")
    assert (await registry.delete("iris:3")).deleted == []
    assert (await registry.delete("iris:3", restore=True)).restored == ["iris:3"]
    assert (await registry.delete("iris:3", restore=True)).restored == []


async def test_an_alias_cannot_be_restored(registry: RegistryService) -> None:
    with pytest.raises(InvalidArgument, match="is an alias"):
        await registry.delete("iris@champion", restore=True)


@pytest.mark.parametrize("restore", [False, True])
async def test_what_never_was_is_not_found(registry: RegistryService, restore: bool) -> None:
    with pytest.raises(NotFound, match="no version 9"):
        await registry.delete("iris:9", restore=restore)
    with pytest.raises(NotFound, match="no model 'irsi'"):
        await registry.delete("irsi", restore=restore)
