"""An aggregate as a caller asks for it. Imports nothing heavy: the tools need it at start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A question as a caller puts it; `telemetry_aggregate` tells what each part means."""

    measure: Sequence[str] = ("count",)
    kind: str | None = None
    name: str | None = None
    service: str | None = None
    group_by: Sequence[str] = ()
    bucket: str | None = None
    since: str | float | None = None
    until: str | float | None = None
    where: Mapping[str, Any] | None = None
    compare: bool = False
    limit: int = 50
    cursor: str | None = None
