from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from bson import Binary, Decimal128, ObjectId
from pymongo import AsyncMongoClient

from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.adapters.sources.mongodb import MongoDBSource
from mcp_hub.adapters.sources.port import DataSource, Query
from tests.adapters.sources.contract import (
    PEOPLE,
    DataSourceContract,
    Fill,
    GrowingSourceContract,
    read,
    read_after,
)
from tests.proxy import Proxy
from tests.servers import SECRET_KEY, Server

DAY = datetime(2020, 1, 2)  # noqa: DTZ001 - in UTC, as all cells
SETTING = "data.sources.crm.url"


@pytest.fixture
def url(mongodb_server: Server) -> str:
    """A database of its own, for a user who may only read."""
    return mongodb_server.url.replace("/hub?", f"/s{uuid4().hex}?").replace("//hub:", "//reader:")


@pytest.fixture
async def source(url: str) -> AsyncIterator[MongoDBSource]:
    source = MongoDBSource(url, SETTING, timeout_s=10, settle_s=0)
    yield source
    await source.close()


@pytest.fixture
async def fill(url: str) -> AsyncIterator[Fill]:
    async with AsyncMongoClient[dict[str, Any]](url.replace("//reader:", "//hub:")) as client:
        database = client.get_default_database()

        async def fill(item: str, rows: list[dict[str, Any]]) -> None:
            if item not in await database.list_collection_names():
                await database.create_collection(item)
            if rows:
                await database[item].insert_many([dict(row) for row in rows])

        yield fill


class TestMongoDBSource(DataSourceContract, GrowingSourceContract):
    @pytest.fixture
    def source(self, source: MongoDBSource) -> DataSource:  # type: ignore[override]
        return source

    @pytest.fixture
    def fill(self, fill: Fill) -> Fill:  # type: ignore[override]
        return fill


async def test_documents_become_flat_rows(source: MongoDBSource, fill: Fill) -> None:
    number, uuid = ObjectId(), uuid4()
    await fill(
        "orders",
        [
            {
                "_id": number,
                "customer": {"name": "Ada", "address": {"city": "London"}, "nothing": {}},
                "items": [{"sku": "a", "at": DAY}, number, 1.5, float("nan")],
                "total": Decimal128("12.50"),
                "missing": float("nan"),
                "picture": b"\0\1",
                "uuid": Binary.from_uuid(uuid),
            },
            {"_id": 7, "customer": "none", "total": Decimal128("NaN")},
        ],
    )
    first, second = await read(source, "orders", Query(fields=None))
    # The driver sorts numbers before ObjectIds.
    assert first == {"_id": 7, "customer": "none", "total": None}
    assert second == {
        "_id": str(number),
        "customer.name": "Ada",
        "customer.address.city": "London",
        "items": f'[{{"sku": "a", "at": "2020-01-02T00:00:00"}}, "{number}", 1.5, null]',
        "total": 12.5,
        "missing": None,
        "picture": b"\0\1",
        "uuid": str(UUID(int=uuid.int)),
    }


async def test_a_collection_grows_by_ids_that_have_settled(
    url: str, source: MongoDBSource, fill: Fill
) -> None:
    await fill("many", [{"_id": number, "n": number % 3} for number in range(10)])
    query = Query(filter={"n": 0}, fields=["n"])
    rows, cursor = await read_after(source, "many", query, None)
    assert rows == [{"n": 0}] * 4
    assert cursor is not None
    assert await read_after(source, "many", query, cursor) == ([], cursor)
    old, young = ObjectId.from_datetime(datetime(2020, 1, 1)), ObjectId()  # noqa: DTZ001
    await fill("clicks", [{"_id": young, "n": 2}, {"_id": old, "n": 1}])
    settled = MongoDBSource(url, SETTING, settle_s=60)
    rows, cursor = await read_after(settled, "clicks", Query(), None)
    assert rows == [{"_id": str(old), "n": 1}]
    await settled.close()
    rows, _ = await read_after(source, "clicks", Query(), cursor)
    assert rows == [{"_id": str(young), "n": 2}]


async def test_a_filter_is_mongodbs_own(source: MongoDBSource, fill: Fill) -> None:
    await fill("people", PEOPLE)
    for filter, names in (
        ({"age": {"$gt": 0}}, ["Ada"]),
        ({"born": {"$gte": {"$date": "1900-01-01T00:00:00Z"}}}, ["Grace 🚀"]),
        ({"$or": [{"name": ""}, {"ok": True}]}, ["Ada", ""]),
        ({"name": {"$regex": "^gr", "$options": "i"}}, ["Grace 🚀"]),
        ({"name": "nobody"}, []),
    ):
        rows = await read(source, "people", Query(filter=filter, fields=["name"]))
        assert [row["name"] for row in rows] == names


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(filter={"$where": "sleep(1000)"}), r"\$where is not allowed"),
        (Query(filter={"a": {"$not": {"$function": {}}}}), r"\$function is not allowed"),
        (Query(filter={"$expr": {"$eq": [1, 1]}}), r"\$expr is not allowed"),
        (Query(filter={"a": [{"b": {"$nope": 1}}]}), r"\$nope is not allowed"),
        (Query(filter={"_id": {"$oid": "xyz"}}), "cannot be read"),
        (Query(filter={"a": 2**70}), "cannot be read"),
        (Query(filter={"a": {"$in": 1}}), "does not take the query"),
        (Query(filter={"a": {"$regex": "("}}), "does not take the query"),
        (Query(fields=["$where"]), "not the name of a field"),
        (Query(fields=[""]), "not the name of a field"),
        (Query(fields=["name", "name.first"]), "does not take the query"),
    ],
)
async def test_a_query_says_what_is_wrong_with_it(
    source: MongoDBSource, fill: Fill, query: Query, message: str
) -> None:
    await fill("people", PEOPLE)
    with pytest.raises(InvalidArgument, match=message) as raised:
        await read(source, "people", query)
    assert raised.value.hint


async def test_two_fields_that_would_be_one_column_are_refused(
    source: MongoDBSource, fill: Fill
) -> None:
    await fill("odd", [{"a.b": 1, "a": {"b": 2}}])
    with pytest.raises(InvalidArgument, match=r"'a\.b'"):
        await read(source, "odd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((SECRET_KEY, "wrong-password"), "authentication failed"),
        (("127.0.0.1", "nowhere.invalid"), "cannot be reached"),
        (("//reader:", "//stranger:"), "not authorized"),
    ],
)
async def test_what_refuses_is_unavailable(
    url: str, fill: Fill, change: tuple[str, str], message: str
) -> None:
    await fill("people", PEOPLE)
    source = MongoDBSource(url.replace(*change), SETTING, timeout_s=2)
    for attempt in (source.check(), read(source, "people")):
        with pytest.raises(Unavailable, match=message) as raised:
            await attempt
        told = f"{raised.value.message} {raised.value.hint}"
        assert "***@" in told
        assert raised.value.hint
        assert SECRET_KEY not in told
        assert "wrong-password" not in told
    await source.close()


async def test_a_connection_that_breaks_is_unavailable(
    url: str, fill: Fill, mongodb_server: Server
) -> None:
    await fill("large", [{"text": "x" * 1_000_000} for _ in range(40)])
    async with Proxy(mongodb_server.port).running() as proxy:
        there = url.replace(f":{mongodb_server.port}/", f":{proxy.port}/")
        source = MongoDBSource(f"{there}&directConnection=true", SETTING, timeout_s=2)
        assert await source.items() == ["large"]
        proxy.cut_receiving = 20_000_000
        with pytest.raises(Unavailable, match="broke off"):
            await read(source, "large")
        await source.close()
