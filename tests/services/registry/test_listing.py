import pytest

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.registry.service import RegistryService

from .conftest import SIGNATURE, Add


async def test_models_by_name_with_their_newest_version(
    registry: RegistryService, add: Add, iris: None
) -> None:
    await add("Wine", accuracy=0.8, tags={"team": "cellar"})
    [wine, flower] = (await registry.list()).items
    assert (wine.name, wine.version, wine.versions) == ("Wine", 1, 1)
    assert (wine.tags, wine.aliases) == ({"team": "cellar"}, {})
    assert (flower.name, flower.version, flower.versions) == ("iris", 3, 3)
    assert (flower.aliases, flower.metrics) == ({"champion": 2}, {"accuracy": 0.93})
    await registry.delete("iris:3")
    assert (await registry.list(name="iris")).items[0].version == 2


async def test_pages_miss_and_repeat_nothing(registry: RegistryService, add: Add) -> None:
    for number in range(25):
        await add(f"m{number:02}")
    seen: list[str] = []
    cursor = None
    while True:
        page = await registry.list(limit=10, cursor=cursor)
        seen += [model.name for model in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == [f"m{number:02}" for number in range(25)]


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("iri", ["iris"]),
        ("R", ["iris", "m_r"]),
        ("_", ["m_r"]),
        ("%", []),
        ("", ["iris", "m_r"]),
    ],
)
async def test_a_part_of_the_name(
    registry: RegistryService, add: Add, part: str, found: list[str]
) -> None:
    await add("iris")
    await add("m_r")
    assert [model.name for model in (await registry.list(name=part)).items] == found


@pytest.mark.parametrize(
    ("tag", "found"),
    [("team", ["a", "b"]), ("team=x", ["a"]), ("team=z", []), ("te", []), ("a.b/c-d", ["c"])],
)
async def test_a_tag_of_the_newest_version(
    registry: RegistryService, add: Add, tag: str, found: list[str]
) -> None:
    await add("a", tags={"team": "x"})
    await add("b", tags={"team": "y"})
    await add("c", tags={"team": "x"})
    await add("c", tags={"a.b/c-d": ""})
    assert [model.name for model in (await registry.list(tag=tag)).items] == found


async def test_other_arguments_are_refused(registry: RegistryService) -> None:
    with pytest.raises(InvalidArgument, match="limit is 0"):
        await registry.list(limit=0)
    with pytest.raises(InvalidArgument, match="is not a cursor"):
        await registry.list(cursor="x")
    with pytest.raises(InvalidArgument, match="is not a key for a tag"):
        await registry.list(tag="te'am\"=x")


async def test_names_by_prefix(registry: RegistryService, add: Add) -> None:
    for name in ("iris", "irises", "wine"):
        await add(name)
    assert await registry.names("IRI") == ["iris", "irises"]


async def test_side_by_side(registry: RegistryService, add: Add) -> None:
    await add("iris", accuracy=0.9, rmse=2.0, params={"C": 1, "seed": 0}, dataset="iris:1")
    await add("iris", accuracy=0.9, rmse=1.0, f1=0.5, params={"C": True, "seed": 0})
    await add("wine", accuracy=0.8, params={"seed": 0}, dataset="iris:1")
    table = await registry.compare(["iris:1", "iris", "wine"])
    assert table.models == ["iris:1", "iris:2", "wine:1"]
    rows = {row.metric: (row.values, row.best) for row in table.metrics}
    assert rows == {
        "accuracy": ([0.9, 0.9, 0.8], None),
        "rmse": ([2.0, 1.0, None], "iris:2"),
        "f1": ([None, 0.5, None], "iris:2"),
    }
    assert table.differing_params == {"C": [1, True, None]}
    assert (table.same_signature, table.same_dataset) == (True, False)
    same = await registry.compare(["iris:1", "wine"])
    assert same.same_dataset


async def test_of_params_inside_others_only_those_that_differ_are_told(
    registry: RegistryService, add: Add
) -> None:
    config = {"seed": 0, "drop": [], "params": {}}
    await add("iris", params={"config": config | {"estimator": "svm"}})
    await add("iris", params={"config": config | {"estimator": "mlp", "params": {"alpha": 1}}})
    table = await registry.compare(["iris:1", "iris:2"])
    assert table.differing_params == {
        "config.estimator": ["svm", "mlp"],
        "config.params.alpha": [None, 1],
    }


async def test_other_signatures(registry: RegistryService, add: Add) -> None:
    await add("iris")
    await add("iris", signature=SIGNATURE.model_copy(update={"outputs": []}))
    assert not (await registry.compare(["iris:1", "iris:2"])).same_signature


@pytest.mark.parametrize("references", [[], ["iris:1"], ["iris:1"] * 21])
async def test_two_to_twenty(registry: RegistryService, iris: None, references: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="a comparison takes 2 to 20"):
        await registry.compare(references)


async def test_the_same_version_twice(registry: RegistryService, iris: None) -> None:
    with pytest.raises(InvalidArgument, match="the same version more than once"):
        await registry.compare(["iris:2", "iris@champion"])


async def test_a_version_that_is_not_there(registry: RegistryService, iris: None) -> None:
    with pytest.raises(NotFound, match="no version 9"):
        await registry.compare(["iris:1", "iris:9"])
