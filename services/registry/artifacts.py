"""What a version's artifacts say, for those who read text."""

from typing import Any

from pydantic_core import from_json

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound, names_hint
from mcp_hub.services.registry.views import ModelView

MAX_BYTES = 15_000
"""As much as leaves room for the rest of the answer."""


async def read_artifact(view: ModelView, name: str, blobs: BlobStore) -> Any:
    """The content of a version's artifact: what its JSON holds, or its text.

    Raises:
        NotFound: the version has no such artifact, or its blob is gone.
        LimitExceeded: it has more than `MAX_BYTES`.
        InvalidArgument: it is no text.
        Unavailable: the blobs cannot be read.
    """
    artifact = next((one for one in view.artifacts if one.name == name), None)
    if artifact is None:
        names = [one.name for one in view.artifacts]
        raise NotFound(
            f"{view.model} has no artifact {name!r}.", names_hint(name, names, "artifacts")
        )
    if artifact.bytes > MAX_BYTES:
        raise LimitExceeded(
            f"Artifact {name!r} has {artifact.bytes:,} bytes; at most {MAX_BYTES:,} are shown.",
            f"The store of blobs has it whole, as {artifact.sha256}.",
        )
    try:
        text = (await blobs.get(artifact.sha256)).decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"Artifact {name!r} is no text.",
            f"The store of blobs has its {artifact.bytes:,} bytes, as {artifact.sha256}.",
        ) from error
    try:
        return from_json(text)
    except ValueError:  # No JSON, or none that could be sent on.
        return text
