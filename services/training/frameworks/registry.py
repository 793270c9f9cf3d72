"""Which frameworks there are: the entry points of the group `mcp_hub.frameworks`."""

import logging
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from mcp_hub.adapters.errors import NotFound, Unavailable, names_hint
from mcp_hub.services.training.frameworks.base import Framework

logger = logging.getLogger(__name__)

GROUP = "mcp_hub.frameworks"


def framework_names() -> list[str]:
    """The names that `training_submit` takes, sorted."""
    return sorted(_entry_points())


def load_framework(name: str) -> Framework:
    """The framework of that name; its own module is imported, its libraries are not.

    Raises:
        NotFound: no installed package provides it.
        Unavailable: its module cannot be imported.
    """
    entry = _entry_points().get(name)
    if entry is None:
        raise NotFound(
            f"There is no framework {name!r}.", names_hint(name, framework_names(), "frameworks")
        )
    return _load(entry)


@cache
def _load(entry: EntryPoint) -> Framework:
    try:
        framework: Framework = entry.load()()
    except Exception as error:  # a plug-in's code: whatever it raises ends this call only
        logger.exception("Framework %s cannot be loaded", entry.name)
        raise Unavailable(
            f"Framework {entry.name!r} cannot be loaded: {type(error).__name__}: {error}",
            f"It comes from {entry.value}; repair or uninstall that package.",
        ) from error
    return framework


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
