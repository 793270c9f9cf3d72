"""Tags and the other words that people attach to a version, and how long they may be."""

import math
import re
from collections.abc import Mapping

from sqlalchemy import Connection, update

from mcp_hub.adapters.database.schema import model_versions
from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.services.registry.references import Reference
from mcp_hub.services.registry.store import lock_model
from mcp_hub.services.registry.versions import VersionReader
from mcp_hub.services.registry.views import ModelView

MOST_TAGS = 50
LONGEST_VALUE = 500
LONGEST_DESCRIPTION = 4000
LONGEST_REASON = 1000
MOST_METRICS = 200

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")


def change_tags(
    connection: Connection,
    reader: VersionReader,
    reference: Reference,
    changes: Mapping[str, str | None],
) -> ModelView:
    """Set each tag to its value, or remove it where that is None; the version as it then stands.

    Raises:
        NotFound: there is no such version, or it was deleted.
        LimitExceeded: the version would have more than 50 tags.
    """
    lock_model(connection, reference.name)
    view = reader.read(connection, reference)
    merged = {**view.tags, **changes}
    tags = check_tags({key: value for key, value in merged.items() if value is not None})
    connection.execute(
        update(model_versions)
        .where(model_versions.c.name == view.name, model_versions.c.version == view.version)
        .values(tags=tags)
    )
    return view.model_copy(update={"tags": tags})


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """`tags` if a version may have them.

    Raises:
        InvalidArgument: a key is malformed.
        LimitExceeded: there are more than 50, or a value is longer than 500 characters.
    """
    if len(tags) > MOST_TAGS:
        raise LimitExceeded(f"That makes {len(tags)} tags; a version has at most {MOST_TAGS}.")
    for key, value in tags.items():
        check_tag_key(key)
        if len(value) > LONGEST_VALUE:
            raise LimitExceeded(
                f"The tag {key!r} has {len(value)} characters; a value has at most {LONGEST_VALUE}."
            )
    return dict(tags)


def check_tag_key(key: str) -> str:
    """`key` if a tag may be called so.

    Raises:
        InvalidArgument: it is malformed.
    """
    if _KEY.fullmatch(key):
        return key
    raise InvalidArgument(
        f"{key[:100]!r} is not a key for a tag.",
        "A key is a letter or digit and then up to 63 letters, digits, '.', '_', '/' or '-'.",
    )


def parse_tag_filter(text: str) -> tuple[str, str | None]:
    """`key` or `key=value` as (key, value or None).

    Raises:
        InvalidArgument: the key is malformed.
    """
    key, equals, value = text.partition("=")
    return check_tag_key(key.strip()), value.strip() if equals else None


def check_text(text: str, what: str, longest: int) -> str:
    """`text` if it has at most `longest` characters.

    Raises:
        LimitExceeded: it has more.
    """
    if len(text) > longest:
        raise LimitExceeded(f"The {what} has {len(text)} characters; it may have {longest}.")
    return text


def check_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """`metrics` if a version may have them.

    Raises:
        InvalidArgument: a name is empty or too long, or a value is not finite.
        LimitExceeded: there are more than 200.
    """
    if len(metrics) > MOST_METRICS:
        raise LimitExceeded(f"{len(metrics)} metrics were given; at most {MOST_METRICS} fit.")
    for name, value in metrics.items():
        if not 1 <= len(name) <= 128:
            raise InvalidArgument(f"{name[:128]!r} cannot name a metric: give 1 to 128 characters.")
        if not math.isfinite(value):
            raise InvalidArgument(f"The metric {name!r} is {value}; it must be a finite number.")
    return {name: float(value) for name, value in metrics.items()}
