"""Where settings come from, each source as a flat layer of dotted keys."""

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from platformdirs import user_config_dir
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.exceptions import SettingsError

from mcp_hub.adapters.errors import InvalidArgument, names_hint

PREFIX = "MCP_HUB_"
FILE_NAMES = ("mcp-hub.toml", "mcp-hub.json")

# Variables that start like a setting and are none.
_OTHER_VARIABLES = ("MCP_HUB_CONFIG", "MCP_HUB_EVENTS", "MCP_HUB_ATTEMPT")
_OF_JOBS = "MCP_HUB_JOB_"
_PATH_KEYS = ("data_dir", "cache_dir", "roots", "blobs_url", "training.node")


class Setting(NamedTuple):
    """A value as it was given, and where."""

    value: Any
    origin: str


Layer = dict[str, Setting]


def _seconds(milliseconds: Any) -> Any:
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else milliseconds


def _same(value: Any) -> Any:
    return value


# The keys of earlier releases' JSON → today's key, and how the value changes.
_EARLIER: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "mlPipeline.enabled": ("training.enabled", _same),
    "mlPipeline.trainingQueue.concurrency": ("training.concurrency", _same),
    "mlPipeline.trainingQueue.defaultTimeout": ("training.default_timeout_s", _seconds),
    "mlPipeline.modelRegistry.path": ("blobs_url", _same),
    "mlPipeline.modelRegistry.autoVersion": ("registry.auto_version", _same),
    "mlPipeline.dataConnectors.postgres.enabled": ("data.connectors.postgres.enabled", _same),
    "mlPipeline.dataConnectors.mongodb.enabled": ("data.connectors.mongodb.enabled", _same),
    "mlPipeline.dataConnectors.redis.enabled": ("data.connectors.redis.enabled", _same),
    "telemetry.collectUsageMetrics": ("telemetry.collect_usage_metrics", _same),
    "telemetry.collectErrorMetrics": ("telemetry.collect_error_metrics", _same),
    "telemetry.reportingInterval": ("telemetry.reporting_interval_s", _seconds),
}


def find_file(config_file: str | Path | None) -> Path | None:
    """The configuration file to read: the one named, else the first that exists, else None.

    Raises:
        InvalidArgument: the named file does not exist or is neither TOML nor JSON.
    """
    named = config_file or os.environ.get("MCP_HUB_CONFIG")
    if named:
        path = Path(named).expanduser().absolute()
        said = "--config" if config_file else "MCP_HUB_CONFIG"
        if not path.is_file():
            raise InvalidArgument(f"The configuration file {path} ({said}) does not exist.")
        if path.suffix not in (".toml", ".json"):
            raise InvalidArgument(
                f"The configuration file {path} ({said}) is neither .toml nor .json."
            )
        return path
    folders = [Path.cwd(), Path(user_config_dir("mcp-hub", appauthor=False))]
    candidates = [folder / name for folder in folders for name in FILE_NAMES]
    return next((path for path in candidates if path.is_file()), None)


def file_layer(path: Path | None, known: Iterable[str], profile: Setting | None = None) -> Layer:
    """The settings in a TOML or JSON file, with those of a profile, which is `[profiles.NAME]`.

    `profile` says which; else the file's own key `profile` does, if it has one. Relative paths
    in the file start at its own folder.

    Raises:
        InvalidArgument: it cannot be read or parsed, holds an unknown or a doubled key, or has no
            such profile.
    """
    if path is None:
        if profile is not None and profile.value:
            raise InvalidArgument(
                f"{profile.origin}: there is no configuration file to take a profile from.",
                f"Make {FILE_NAMES[0]} with a table [profiles.{profile.value}], or name a file "
                "with --config.",
            )
        return {}
    values, known = _parse(path), list(known)
    profiles = values.pop("profiles", {})
    layer = _file_layer(values, path.parent, known, str(path))
    if not isinstance(profiles, dict) or not all(isinstance(t, dict) for t in profiles.values()):
        raise InvalidArgument(f"{path}: profiles must hold tables, such as [profiles.team].")
    inside = [key for key in known if key != "profile"]
    layers = {
        name: _file_layer(table, path.parent, inside, f"{path}, profile {name}")
        for name, table in profiles.items()
    }
    chosen = profile or layer.get("profile")
    if chosen is None or not chosen.value:
        return layer
    if chosen.value not in list(layers):
        raise InvalidArgument(
            f"{chosen.origin}: there is no profile {chosen.value!r} in {path}.",
            names_hint(str(chosen.value), layers, "profiles"),
        )
    return layer | layers[chosen.value]


def _file_layer(values: dict[str, Any], folder: Path, known: list[str], origin: str) -> Layer:
    layer: Layer = {}
    said: dict[str, str] = {}
    for written, raw in flatten(values).items():
        key, convert = _EARLIER.get(written, (written, _same))
        _check_known(written, key, raw, known, origin)
        if key in layer:
            raise InvalidArgument(f"{origin}: {said[key]} and {written} are the same setting.")
        value = convert(raw)
        if key in _PATH_KEYS:
            value = _from_folder(folder, value)
        layer[key], said[key] = Setting(value, origin), written
    return layer


def environment_layer(
    settings: type[BaseSettings], known: Iterable[str], secret_files: Iterable[str] = ()
) -> Layer:
    """The settings in the process's `MCP_HUB_…` variables; empty ones do not count.

    A setting in `secret_files` may be in a file that the variable with `_FILE` names, as
    container platforms give secrets; `*` in a key there takes any name.

    Raises:
        InvalidArgument: a variable names no setting, its JSON cannot be parsed or its file read.
    """
    known = list(known)
    secret_files = list(secret_files)
    files = {name: key for name in os.environ if (key := _filed_key(name, secret_files))}
    names = [
        name
        for name, value in os.environ.items()
        if name.upper().startswith(PREFIX)
        and value
        and name.upper() not in _OTHER_VARIABLES
        and not name.upper().startswith(_OF_JOBS)
        and name not in files
    ]
    for name in names:
        key = name[len(PREFIX) :].lower().replace("__", ".")
        if not _matches(key, known) and not _matches(key, _sections(known)):
            close = get_close_matches(name.upper(), [variable(k) for k in known], n=1, cutoff=0.5)
            raise InvalidArgument(
                f"The variable {name} names no setting.",
                f"Did you mean {close[0]}?" if close else "`mcp-hub info` lists the settings.",
            )
    try:
        values = flatten(EnvSettingsSource(settings)())
    except SettingsError as error:
        raise InvalidArgument(f"A {PREFIX}… variable cannot be parsed: {error}.") from error
    layer: Layer = {}
    for key, value in values.items():
        # Within a section, pydantic takes the variable that names a file for a setting.
        if variable(key) in files:
            continue
        # The longest name that leads to the key: a section may be given whole, as JSON.
        name = max((n for n in names if variable(key).startswith(n.upper())), key=len)
        _check_known(key, key, value, known, name)
        layer[key] = Setting(value, name)
    return layer | {
        key: Setting(_read_secret(name, os.environ[name]), name)
        for name, key in files.items()
        if os.environ.get(name)
    }


def _filed_key(name: str, secret_files: Iterable[str]) -> str | None:
    """The key whose value is in the file that the variable `name` names, if it is such a one."""
    if not (name.startswith(PREFIX) and name.endswith("_FILE")):
        return None
    key = name[len(PREFIX) : -len("_FILE")].lower().replace("__", ".")
    return key if _matches(key, secret_files) else None


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"The file {path} that {name} names cannot be read: {error}."
        ) from error


def flags_layer(flags: Mapping[str, Any]) -> Layer:
    """The settings given by a program or as flags; None means not given."""
    given = {key: value for key, value in flatten(flags).items() if value is not None}
    return {key: Setting(value, "command line") for key, value in given.items()}


def earlier_keys() -> dict[str, str]:
    """The keys of earlier releases that are read, each with today's key."""
    return {earlier: today for earlier, (today, _) in _EARLIER.items()}


def variable(key: str) -> str:
    """The environment variable that sets a dotted key."""
    return PREFIX + key.upper().replace(".", "__")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, under dotted keys. An empty mapping has no key."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        level = nested
        for section in sections:
            level = level.setdefault(section, {})
        level[name] = value
    return nested


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # TOML, JSON and UTF-8 faults are all ValueErrors
        raise InvalidArgument(f"{path} cannot be parsed: {error}.") from error
    if not isinstance(values, dict):
        raise InvalidArgument(f"{path} must hold an object of settings.")
    return values


def _matches(key: str, known: Iterable[str]) -> bool:
    """Whether a dotted key is a known one, where `*` takes any name."""
    parts = key.split(".")
    return any(
        len(parts) == len(pattern)
        and all(p in ("*", q) for p, q in zip(pattern, parts, strict=True))
        for pattern in (name.split(".") for name in known)
    )


def _sections(known: Iterable[str]) -> set[str]:
    """Every proper prefix of the known keys."""
    return {key[:at] for key in known for at, char in enumerate(key) if char == "."}


def _check_known(written: str, key: str, value: Any, known: Iterable[str], origin: str) -> None:
    known = list(known)
    if _matches(key, known):
        return
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        raise InvalidArgument(
            f"{origin}: {written} must be a section, not {json.dumps(value, default=str)}.",
            f"Its keys: {', '.join(name.removeprefix(f'{key}.') for name in inside)}.",
        )
    raise InvalidArgument(f"{origin}: unknown key {written}.", _nearest(written, known))


def _nearest(written: str, known: list[str]) -> str:
    """The hint for an unknown key: a slip in its section, then elsewhere, else what there is."""
    section, _, name = written.rpartition(".")
    siblings = {
        key.rpartition(".")[2]: key
        for key in (*known, *_EARLIER)
        if key.rpartition(".")[0] == section
    }
    elsewhere = {key.rpartition(".")[2]: key for key in (*_EARLIER, *known)}
    for close in (
        [siblings[n] for n in get_close_matches(name, siblings, n=1)],
        get_close_matches(written, [*known, *_EARLIER], n=1, cutoff=0.8),
        [elsewhere[n] for n in get_close_matches(name, elsewhere, n=1, cutoff=0.8)],
    ):
        if close:
            return f"Did you mean {close[0]}?"
    inside = [key for key in known if key.startswith(f"{section}.")] if section else []
    return f"Known keys: {', '.join(inside or known)}."


def _from_folder(folder: Path, value: Any) -> Any:
    if isinstance(value, list):
        return [_from_folder(folder, item) for item in value]
    if not isinstance(value, str) or "://" in value:
        return value
    return os.path.normpath(folder / Path(value).expanduser())
