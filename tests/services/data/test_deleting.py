from pathlib import Path

import pytest

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.errors import Conflict, NotFound
from mcp_hub.services.data.service import DataService


async def register(data: DataService, *numbers: int, name: str = "d") -> None:
    for number in numbers:
        await data.register(name, content=f"a,b\n{number},2\n")


async def test_a_version_goes_with_its_content(data: DataService, blobs: FileBlobStore) -> None:
    await register(data, 1, 2, 1)
    await register(data, 2, name="other")
    addresses = [(await data.get(f"d:{version}")).sha256 for version in (1, 2, 3)]
    deletion = await data.delete("d:3")
    assert (deletion.deleted, deletion.omitted) == (["d:3"], 0)
    assert await blobs.exists(addresses[0])  # d:1 has the same
    assert (await data.get("d")).version == 2
    await data.delete((await data.get("d:1")).id)
    assert not await blobs.exists(addresses[0])
    assert (await data.delete("d")).deleted == ["d:2"]
    assert await blobs.exists(addresses[1])
    assert [item.name for item in (await data.list()).items] == ["other"]
    for reference in ("d", "d:1"):
        with pytest.raises(NotFound, match="no data set 'd'"):
            await data.delete(reference)


async def test_a_number_is_never_given_again(data: DataService) -> None:
    await register(data, 1, 2, 3)
    await data.delete("d:3")
    await data.delete("d:1")
    assert (await data.register("d", content="a,b\n7,2\n")).version == 4
    await data.delete("d")
    assert (await data.register("d", content="a,b\n7,2\n")).version == 5


async def test_a_data_set_that_grows_is_stopped_first(data: DataService, root: Path) -> None:
    file = root / "log.csv"
    file.write_text("a,b\n1,2\n")
    await data.growing.begin("log", "log.csv")
    file.write_text("a,b\n1,2\n3,4\n")
    await data.growing.advance("log")
    assert (await data.delete("log:1")).deleted == ["log:1"]  # it goes on from the second
    with pytest.raises(Conflict, match="grows") as error:
        await data.delete("log")
    assert error.value.hint == "First dataset_stop(name='log')."
    await data.growing.stop("log")
    assert "begins with the source's first rows" in (await data.delete("log:2")).note
    again = await data.growing.begin("log", "log.csv")
    assert (again.dataset, again.rows) == ("log:3", 2)
    file.write_text("a,b\n1,2\n3,4\n5,6\n")
    grown = await data.growing.advance("log")
    assert grown is not None
    assert (grown.dataset, grown.rows) == ("log:4", 3)
