"""Which frameworks there are: the entry points of the group `mcp_hub.frameworks`.

Most of the code behind them is other people's: whatever it raises ends one call, and is told.
"""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from mcp_hub.adapters.errors import Conflict, HubError, NotFound, Unavailable, names_hint
from mcp_hub.services.training.frameworks.base import (
    NOWHERE,
    Checking,
    Framework,
    FrameworkConfig,
    Place,
    Situated,
)
from mcp_hub.services.training.views import Frameworks, FrameworkView

logger = logging.getLogger(__name__)

GROUP = "mcp_hub.frameworks"
_OWN = "mcp-hub"

_WORK = {
    f"hub.{name.lower()}": EntryPoint(
        f"hub.{name.lower()}", f"mcp_hub.services.scoring.work:{name}", GROUP
    )
    for name in ("Evaluate", "Predict")
}
"""What the hub itself does as jobs, which nobody submits by name."""
OWN_WORK = frozenset(_WORK)
"""The names of that, as a job's framework: only the hub's workers can do it."""


class FrameworkUnavailable(Unavailable):
    """A framework that cannot be used: only its jobs are in trouble, not what the hub stands on."""


@contextmanager
def guarded(name: str, what: str) -> Iterator[None]:
    """Run the code of the framework `name`, which is to do `what`.

    Raises:
        FrameworkUnavailable: it raises something else than the errors it may tell.
    """
    try:
        yield
    except Unavailable as error:
        raise FrameworkUnavailable(error.message, error.hint) from error
    except HubError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in's code, which may even want to exit
        logger.exception("Framework %s cannot %s", name, what)
        raise FrameworkUnavailable(
            f"{name} cannot {what}: {type(error).__name__}: {error}",
            "Repair the package that provides it.",
        ) from error


def framework_names() -> list[str]:
    """The names that `training_submit` takes, sorted."""
    return sorted(_entry_points())


def load_framework(name: str, place: Place = NOWHERE) -> Framework:
    """The framework of that name at a hub; its own module is imported, its libraries are not.

    Raises:
        NotFound: no installed package provides it.
        FrameworkUnavailable: its module cannot be imported, or what it provides is no framework.
    """
    entry = _entry_points().get(name)
    if entry is None:
        raise NotFound(
            f"There is no framework {name!r}.", names_hint(name, framework_names(), "frameworks")
        )
    framework = _load(entry)
    with guarded(name, "be set up here"):
        return framework.at(place) if isinstance(framework, Situated) else framework


def check_with(framework: Framework, config: FrameworkConfig, type: str) -> None:
    """Have the framework refuse a job that cannot work, if it checks that. It blocks.

    Raises:
        HubError: the framework refuses it, or cannot check it.
    """
    with guarded(framework.name, "check a job"):
        if isinstance(framework, Checking):
            _check_signature(framework)
            framework.check(config, type)


def _check_signature(framework: Checking) -> None:
    signature = inspect.signature(framework.check)
    try:
        signature.bind(None, "")
    except TypeError:
        taken = ", ".join(signature.parameters)
        raise TypeError(f"its check takes ({taken}); it must take (config, type)") from None


def frameworks_with(key: str) -> list[str]:
    """The frameworks whose config has that key, of those that can be loaded."""
    loaded = []
    for name in framework_names():
        with suppress(HubError):
            loaded.append(load_framework(name))
    return [framework.name for framework in loaded if key in framework.Config.model_fields]


def load_runner(name: str, place: Place = NOWHERE) -> Framework:
    """What runs the jobs of that framework at a hub: it, or what the hub itself does as jobs.

    Raises as `load_framework`.
    """
    work = _WORK.get(name)
    return load_framework(name, place) if work is None else _load(work)


def load_ready(name: str, place: Place) -> Framework:
    """As `load_runner`, of a framework that can run here. It may ask other programs: it blocks.

    Raises:
        Conflict: it cannot; says what it lacks.
    """
    try:
        framework = load_runner(name, place)
    except HubError as error:
        raise Conflict(error.message, error.hint) from error
    missing = _missing(framework)
    if missing is not None:
        raise Conflict(
            f"{name} cannot run on this worker. {missing}",
            "Mend that where the worker runs, then training_retry.",
        )
    return framework


class _Untitled(GenerateJsonSchema):
    """Schemas without the titles that only repeat the keys: an agent pays for each word."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def describe_frameworks(place: Place) -> Frameworks:
    """Each framework, also those that cannot be used, with the reason."""
    return Frameworks(
        items=[_describe(name, place) for name in framework_names()], notes=_shadowed()
    )


def _describe(name: str, place: Place) -> FrameworkView:
    try:
        framework = load_framework(name, place)
    except HubError as error:
        return _broken(name, f"{error.message.rstrip('.')}. {error.hint or ''}".strip())
    missing = _missing(framework)
    return FrameworkView(
        name=name,
        description=framework.description,
        types=list(framework.types),
        available=missing is None,
        missing=missing,
        config_schema=framework.Config.model_json_schema(schema_generator=_Untitled),
    )


def _missing(framework: Framework) -> str | None:
    """What it lacks here, or that it cannot tell."""
    try:
        return framework.missing()
    except Exception as error:  # a plug-in's code: whatever it raises says that it will not do
        logger.exception("Framework %s cannot tell what it needs", framework.name)
        return f"It cannot tell what it needs: {type(error).__name__}: {error}"


def _broken(name: str, reason: str) -> FrameworkView:
    return FrameworkView(
        name=name, description="", types=[], available=False, missing=reason, config_schema={}
    )


@cache
def _load(entry: EntryPoint) -> Framework:
    try:
        framework: Framework = entry.load()()
        _check(entry.name, framework)
    except (Exception, SystemExit) as error:  # a plug-in's code, which may even want to exit
        logger.exception("Framework %s cannot be loaded", entry.name)
        raise FrameworkUnavailable(
            f"Framework {entry.name!r} cannot be loaded: {type(error).__name__}: {error}",
            f"It comes from {_package(entry)} ({entry.value}); repair or uninstall that package.",
        ) from error
    return framework


def _check(name: str, framework: Framework) -> None:
    """Raise TypeError or ValueError where a plug-in lacks what `Framework` asks for."""
    for attribute in ("name", "description", "types", "Config", "preload", "missing", "train"):
        if not hasattr(framework, attribute):
            raise TypeError(f"it has no attribute {attribute!r}")
    if framework.name != name:
        raise ValueError(f"its name is {framework.name!r}, and its entry point's {name!r}")
    config = framework.Config
    if not (isinstance(config, type) and issubclass(config, FrameworkConfig)):
        raise TypeError(f"its Config is no subclass of {FrameworkConfig.__qualname__}")
    config.model_json_schema()
    for attribute in ("types", "preload"):
        words = getattr(framework, attribute)
        if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"its {attribute} is no tuple of strings")
    if not framework.types:
        raise ValueError("its types are empty: it trains nothing")
    if not isinstance(framework.description, str):
        raise TypeError("its description is no string")


@cache
def _entry_points() -> dict[str, EntryPoint]:
    """By name; a name that several packages claim is the hub's own, else the first package's."""
    found: dict[str, EntryPoint] = {}
    for entry in _all_entry_points():
        found.setdefault(entry.name, entry)
    return found


def _shadowed() -> list[str]:
    used = _entry_points()
    return [
        f"{_package(entry)} provides another {entry.name!r}, which is not used: "
        f"that of {_package(used[entry.name])} is."
        for entry in _all_entry_points()
        if entry != used[entry.name]
    ]


@cache
def _all_entry_points() -> list[EntryPoint]:
    return sorted(
        entry_points(group=GROUP), key=lambda entry: (_package(entry) != _OWN, _package(entry))
    )


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "a package without a name"
