import pytest

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import NotFound
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.registry.versions import VersionReader

from .conftest import Add, promote


@pytest.mark.parametrize(
    ("reference", "version"), [("iris", 3), ("iris:1", 1), ("iris@champion", 2)]
)
async def test_each_form_of_reference(
    registry: RegistryService, iris: None, reference: str, version: int
) -> None:
    view = await registry.get(reference)
    assert (view.model, view.version) == (f"iris:{version}", version)
    assert view.aliases == (["champion"] if version == 2 else [])


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("irsi", "no model 'irsi'", "Did you mean 'iris'? Existing models: iris."),
        ("irsi:1", "no model 'irsi'", "Existing models: iris."),
        ("irsi@champion", "no model 'irsi'", "Existing models: iris."),
        ("iris:4", "no version 4", "Its versions: 1, 2, 3."),
        ("iris@champ", "no alias 'champ'", "Did you mean 'champion'?"),
        ("iris@latest", "no alias 'latest'", "The newest version is plain 'iris'."),
    ],
)
async def test_what_is_not_there_is_told_from_what_is(
    registry: RegistryService, iris: None, reference: str, message: str, hint: str
) -> None:
    with pytest.raises(NotFound) as absent:
        await registry.get(reference)
    assert message in absent.value.message
    assert hint in (absent.value.hint or "")


async def test_what_is_kept_in_memory_never_hides_a_change(
    registry: RegistryService, database: SqliteDatabase, add: Add, iris: None
) -> None:
    other = VersionReader(database)
    assert (await other.get("iris@champion")).version == 2
    await registry.tag("iris:2", {"team": "plants"})
    await promote(registry, "iris:2", "best")
    changed = await other.get("iris:2")
    assert (changed.tags, changed.aliases) == ({"team": "plants"}, ["best", "champion"])
    await add("iris")
    assert (await other.get("iris")).version == 4
    await registry.delete("iris:1")
    with pytest.raises(NotFound):
        await other.get("iris:1")


async def test_a_missing_model_is_told_where_there_is_none(registry: RegistryService) -> None:
    with pytest.raises(NotFound) as absent:
        await registry.get("iris")
    assert absent.value.hint == "There are no models yet."


async def test_versions_are_read_by_more_than_are_kept(registry: RegistryService, add: Add) -> None:
    for number in range(1, 301):
        assert await add("iris", accuracy=number / 1000) == number
    for number in (*range(1, 301), 1):
        assert (await registry.get(f"iris:{number}")).metrics == {"accuracy": number / 1000}
