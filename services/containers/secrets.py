"""Secrets by the names that the operator gave them; their values are read when one is needed."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mcp_hub.adapters.errors import NotFound, Unavailable, names_hint

MAX_BYTES = 1024 * 1024


class Secrets:
    """Where the secrets are: by name, `env:VARIABLE` or `file:/path`."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    @property
    def files(self) -> list[Path]:
        """The files that hold secrets."""
        return [
            Path(place.removeprefix("file:")).expanduser()
            for place in self._places.values()
            if place.startswith("file:")
        ]

    def check(self, names: Iterable[str]) -> None:
        """Raises NotFound if one of the names is none of the operator's."""
        for name in names:
            if name not in self._places:
                raise NotFound(
                    f"There is no secret {name!r}.",
                    f"{names_hint(name, self._places, 'secrets')} Whoever runs the hub names them "
                    "in containers.secrets.",
                )

    def read(self, wanted: Mapping[str, str]) -> dict[str, bytes]:
        """The values of secrets, by the keys under which they are `wanted`. Blocks.

        Raises:
            NotFound: there is no secret of that name.
            Unavailable: its variable is not set, or its file cannot be read.
        """
        self.check(wanted.values())
        return {key: self._value(name) for key, name in wanted.items()}

    def _value(self, name: str) -> bytes:
        kind, _, where = self._places[name].partition(":")
        if kind == "env":
            value = os.environb.get(where.encode())
            if value is None:
                raise Unavailable(
                    f"The secret {name!r} is not there: the hub has no variable {where}.",
                    "Whoever runs the hub sets it for the hub's process.",
                )
            return value
        try:
            with Path(where).expanduser().open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise Unavailable(
                f"The secret {name!r} cannot be read: {error.strerror or error}.",
                "Whoever runs the hub looks at containers.secrets.",
            ) from error
        if len(content) > MAX_BYTES:
            raise Unavailable(f"The secret {name!r} has more than {MAX_BYTES:,} bytes.")
        return content
