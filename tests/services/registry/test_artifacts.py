"""What a version's artifacts say."""

import pytest

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.errors import HubError, InvalidArgument, LimitExceeded, NotFound
from mcp_hub.services.registry.artifacts import MAX_BYTES
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.registry.views import Artifact

from .conftest import Add

CONTENTS = {
    "leaderboard.json": b'{"metric": "f1"}', "notes.txt": "na\u00efve".encode(),
    "odd.json": rb'"\ud800"', "deep.json": b"[" * 5_000 + b"]" * 5_000,
    "model.onnx": b"\x08\xff\xfe", "long.txt": b"x" * (MAX_BYTES + 1),
}  # fmt: skip


@pytest.fixture(autouse=True)
async def version(add: Add, blobs: FileBlobStore) -> None:
    stored = [(name, await blobs.put(content)) for name, content in CONTENTS.items()]
    await add(
        "iris",
        artifacts=[
            Artifact(name=name, sha256=blob.sha256, bytes=blob.size) for name, blob in stored
        ],
    )


async def test_json_and_text_are_given(registry: RegistryService) -> None:
    assert (await registry.get("iris", "leaderboard.json")).content == {"metric": "f1"}
    assert (await registry.get("iris:1", "notes.txt")).content == "na\u00efve"
    assert (await registry.get("iris")).content is None
    # What no JSON encoder would pass on is shown as it stands.
    for name in ("odd.json", "deep.json"):
        assert (await registry.get("iris", name)).content == CONTENTS[name].decode()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("model.onnx", InvalidArgument, "is no text"),
        ("long.txt", LimitExceeded, "has 15,001 bytes; at most 15,000"),
        ("leaderbord.json", NotFound, "iris:1 has no artifact 'leaderbord.json'"),
    ],
)
async def test_what_cannot_be_shown_says_why(
    registry: RegistryService, name: str, kind: type[HubError], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        await registry.get("iris", name)
    assert raised.value.hint
