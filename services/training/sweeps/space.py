"""The space that a sweep searches: checked against the framework's config before anything runs."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, get_args

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.numbers import is_finite
from mcp_hub.services.training.frameworks.base import Framework
from mcp_hub.services.training.submission import check_config

MAX_KEYS = 30
MAX_CHOICES = 100
_MOST_STEPS = 2**53
"""A float counts no further."""
_Kind = Literal["float", "int", "categorical"]
_KINDS = get_args(_Kind)
_FIELDS = {
    "float": ("low", "high", "log", "step"),
    "int": ("low", "high", "log", "step"),
    "categorical": ("choices",),
}

Space = dict[str, dict[str, Any]]


def check_space(space: Mapping[str, Any], base: Mapping[str, Any], framework: Framework) -> Space:
    """The space with its defaults filled in.

    Each key is one of the framework's config, or a path into one of its objects ("params.C").
    The ends and choices of each are tried against the config's schema.

    Raises:
        InvalidArgument: names the key, and what would be right.
    """
    if not 1 <= len(space) <= MAX_KEYS:
        raise InvalidArgument(
            f"space has {len(space)} keys; it needs from 1 to {MAX_KEYS}.",
            'E.g. {"params.C": {"type": "float", "low": 0.01, "high": 100, "log": true}}.',
        )
    known = sorted(framework.Config.model_fields)
    checked: Space = {}
    for key, given in space.items():
        if key.split(".")[0] not in known:
            raise InvalidArgument(
                f"space.{key}: {framework.name} has no config key {key.split('.')[0]!r}.",
                names_hint(key.split(".")[0], known, "config keys"),
            )
        checked[key] = _check_key(key, given)
    first = {key: _probes(given)[0] for key, given in checked.items()}
    for key, given in checked.items():
        for value in _probes(given):
            try:
                check_config(config_of(base, {**first, key: value}), framework)
            except InvalidArgument as error:
                raise InvalidArgument(
                    f"space.{key}: {value!r} will not do: {error.message}", error.hint
                ) from None
    return checked


def config_of(base: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The config with a trial's settings in it.

    Raises:
        InvalidArgument: a path leads into something that is no object.
    """
    config: dict[str, Any] = {**base}
    for key, value in params.items():
        *path, last = key.split(".")
        inside = config
        for part in path:
            further = inside.get(part) or {}
            if not isinstance(further, dict):
                raise InvalidArgument(f"config.{part} is no object that {key!r} could be in.")
            inside[part] = {**further}
            inside = inside[part]
        inside[last] = value
    return config


def _check_key(key: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping) or given.get("type") not in _KINDS:
        raise InvalidArgument(
            f"space.{key} needs a type: {', '.join(_KINDS)}.",
            'E.g. {"type": "int", "low": 1, "high": 9}, {"type": "categorical", "choices": ["a"]}.',
        )
    kind: str = given["type"]
    for field in given:
        if field != "type" and field not in _FIELDS[kind]:
            raise InvalidArgument(
                f"space.{key} has no field {field!r}; {kind} takes {', '.join(_FIELDS[kind])}."
            )
    return _check_choices(key, given) if kind == "categorical" else _check_range(key, kind, given)


def _check_choices(key: str, given: Mapping[str, Any]) -> dict[str, Any]:
    choices = given.get("choices")
    if not isinstance(choices, list) or not 1 <= len(choices) <= MAX_CHOICES:
        raise InvalidArgument(f"space.{key}.choices must be a list of 1 to {MAX_CHOICES} values.")
    for choice in choices:
        if not isinstance(choice, str | int | float | bool | None):
            raise InvalidArgument(
                f"space.{key}.choices holds {str(choice)[:60]!r}; each must be a string, a number, "
                "true, false or null."
            )
        if isinstance(choice, int | float) and not is_finite(choice):
            raise InvalidArgument(
                f"space.{key}.choices holds {repr(choice)[:60]}, which no float can hold."
            )
    return {"type": "categorical", "choices": choices}


def _check_range(key: str, kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    number = (int,) if kind == "int" else (int, float)
    for field in ("low", "high", "step"):
        value = given.get(field)
        if value is None and field == "step":
            continue
        sound = isinstance(value, int | float) and not isinstance(value, bool)
        if not sound or not isinstance(value, number) or not is_finite(value):
            word = "a whole number" if kind == "int" else "a number"
            shown = repr(value)[:60]
            raise InvalidArgument(
                f"space.{key}.{field} is {shown}; it must be {word} that a float can hold."
            )
    low, high, log = given["low"], given["high"], given.get("log", False)
    step = given.get("step", 1 if kind == "int" else None)
    if low > high:
        raise InvalidArgument(f"space.{key}: low ({low}) is above high ({high}); swap them.")
    if not is_finite(high - low):
        raise InvalidArgument(
            f"space.{key}: from low to high it is more than a float can hold; narrow it."
        )
    if not isinstance(log, bool):
        raise InvalidArgument(f"space.{key}.log is {log!r}; it must be true or false.")
    if log and low <= 0:
        raise InvalidArgument(
            f"space.{key}: low is {low}, and a logarithmic range must begin above 0."
        )
    if log and given.get("step") not in (None, 1 if kind == "int" else None):
        raise InvalidArgument(f"space.{key} has log and step; leave one of them out.")
    if step is not None:
        if step <= 0:
            raise InvalidArgument(f"space.{key}.step is {step}; it must be above 0.")
        if kind == "float" and high - low > step * _MOST_STEPS:
            raise InvalidArgument(
                f"space.{key}.step is {step}, too small for a range from {low} to {high}."
            )
        high = _last_step(low, high, step)
    return {"type": kind, "low": low, "high": high, "log": log, "step": step}


def _last_step(low: float, high: float, step: float) -> float:
    """The last of low, low + step, … that is not above `high`, of the numbers as written."""
    first, width = Fraction(str(low)), Fraction(str(step))
    last = first + (Fraction(str(high)) - first) // width * width
    return int(last) if isinstance(low, int) and isinstance(step, int) else float(last)


def _probes(given: Mapping[str, Any]) -> list[Any]:
    """Values of the space that stand for all."""
    if given["type"] == "categorical":
        return list(given["choices"])
    low, high = given["low"], given["high"]
    if given["type"] == "int":
        return [low, high]
    # A value between shows that a key takes no fractions, which its ends may not.
    return [low, high, low + (high - low) * 0.4142]
