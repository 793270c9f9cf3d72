"""The texts by which a person chooses what the hub stands on, checked."""

from typing import Annotated

from pydantic import AfterValidator

EMBEDDERS = ("onnx", "sentence-transformers")
"""Kinds of embedders that take a model: `kind:model`."""

_POSTGRESQL = ("postgresql://", "postgres://")
_REDIS = ("redis://", "rediss://")
_BLOBS = ("file:///", "s3://")
_QDRANT = ("http://", "https://")


def _known_database(url: str | None) -> str | None:
    sqlite = url is not None and url.startswith("sqlite:///") and len(url) > 10
    if url is not None and not sqlite and not url.startswith(_POSTGRESQL):
        raise ValueError("must be sqlite:///path/to/hub.db or postgresql://user@host/database")
    return url


def _known_redis(url: str | None) -> str | None:
    if url is not None and not url.startswith(_REDIS):
        raise ValueError("must be redis://host:port/number, or rediss:// for TLS")
    return url


def _known_blobs(url: str | None) -> str | None:
    if url is not None and "://" in url and not url.startswith(_BLOBS):
        raise ValueError("must be a folder, file:///folder or s3://key:secret@host/bucket")
    return url


def _known_vectors(url: str | None) -> str | None:
    if url is not None and "://" in url and not url.startswith(_QDRANT):
        raise ValueError("must be http://host:6333, https://KEY@host:6333 or a folder")
    return url


def _known_embedder(name: str) -> str:
    kind, _, model = name.partition(":")
    if name != "wordllama" and not (kind in EMBEDDERS and model):
        raise ValueError("must be wordllama, onnx:FOLDER or sentence-transformers:NAME")
    return name


DatabaseUrl = Annotated[str | None, AfterValidator(_known_database)]
RedisUrl = Annotated[str | None, AfterValidator(_known_redis)]
BlobsUrl = Annotated[str | None, AfterValidator(_known_blobs)]
VectorsUrl = Annotated[str | None, AfterValidator(_known_vectors)]
EmbedderName = Annotated[str, AfterValidator(_known_embedder)]
