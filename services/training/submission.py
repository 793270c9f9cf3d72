"""What a submitted job must be, checked before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.data.rules import Rule
from mcp_hub.services.data.views import DatasetView
from mcp_hub.services.training.frameworks.base import Framework, FrameworkConfig, Place
from mcp_hub.services.training.frameworks.registry import (
    check_with,
    frameworks_with,
    guarded,
    load_runner,
)
from mcp_hub.services.training.views import JobLimits

MAX_TIMEOUT_S = 7 * 24 * 3600
MAX_RETRIES = 10
MAX_PARENTS = 100
MAX_AHEAD_S = 366 * 24 * 3600
PRIORITIES = range(-100, 101)
NEEDS_TARGET = frozenset({"classification", "regression"})


@dataclass(frozen=True, slots=True)
class Submission:
    """A training job as somebody asks for it."""

    name: str
    type: str
    framework: str
    dataset: str
    target: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    timeout_s: float | None = None
    max_retries: int = 0
    depends_on: Sequence[str] = ()
    idempotency_key: str | None = None
    limits: JobLimits | None = None
    require: Sequence[Rule | Mapping[str, Any]] = ()
    """Rules that the data set must meet before it is trained on."""
    start_at: str | float | None = None
    """When it may start at the earliest: ISO 8601 with its zone, or seconds from now."""
    sweep_id: str | None = None
    sweep_trial: int | None = None
    """Which trial of the sweep it is: such a job registers no model."""


def check_submission(
    submission: Submission, framework: Framework, dataset: DatasetView
) -> dict[str, Any]:
    """The job's config with its defaults filled in. A framework may look at files: it blocks.

    Raises:
        InvalidArgument: something in it cannot work; says what would.
        HubError: the framework refuses it.
    """
    if submission.type not in framework.types:
        hint = names_hint(submission.type, framework.types, f"types of {framework.name}")
        raise InvalidArgument(f"{framework.name} cannot train {submission.type!r}.", hint)
    _check_numbers(submission)
    seconds_until(submission.start_at)
    _check_target(submission, dataset)
    config = check_config(submission.config, framework)
    check_with(framework, config, submission.type)
    with guarded(framework.name, "check its config"):
        config.check_columns([column.name for column in dataset.columns], submission.target)
    with guarded(framework.name, "write its config down"):
        return config.model_dump(mode="json")


def check_again(framework: str, type: str, config: Mapping[str, Any], place: Place) -> None:
    """Have the framework look once more at the config of an earlier job. It blocks.

    Raises:
        HubError: the framework refuses it, or is there no more.
    """
    loaded = load_runner(framework, place)
    check_with(loaded, check_config(config, loaded), type)


def seconds_until(start_at: str | float | None) -> float:
    """How long it is until `start_at`; 0 for none and for one that is past.

    Raises:
        InvalidArgument: it is no such time, or over a year ahead.
    """
    if start_at is None:
        return 0
    if isinstance(start_at, str):
        ahead_s = (_instant(start_at) - datetime.now(UTC)).total_seconds()
    elif start_at >= 0:
        ahead_s = start_at
    else:
        raise InvalidArgument(f"start_at is {start_at:g}; as seconds from now it is 0 or more.")
    if not ahead_s <= MAX_AHEAD_S:
        raise InvalidArgument(f"start_at is {start_at}, more than a year ahead.")
    return max(0.0, ahead_s)


def _instant(text: str) -> datetime:
    right = "Write it as 2026-12-31T09:00:00+01:00 or …Z, or give seconds from now as a number."
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f"start_at is {text[:80]!r}, no ISO 8601 time.", right) from None
    if instant.tzinfo is None:
        raise InvalidArgument(f"start_at is {text!r}, without a time zone.", right)
    return instant


def _check_numbers(submission: Submission) -> None:
    timeout_s = submission.timeout_s
    if timeout_s is not None and not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidArgument(
            f"timeout_s is {timeout_s:g}; it must be above 0 and at most {MAX_TIMEOUT_S} (a week)."
        )
    if not 0 <= submission.max_retries <= MAX_RETRIES:
        raise InvalidArgument(
            f"max_retries is {submission.max_retries}; it must be from 0 to {MAX_RETRIES}."
        )
    if submission.priority not in PRIORITIES:
        raise InvalidArgument(
            f"priority is {submission.priority}; it must be from {PRIORITIES[0]} to "
            f"{PRIORITIES[-1]}, and higher runs first."
        )
    if len(submission.depends_on) > MAX_PARENTS:
        raise InvalidArgument(f"depends_on names over {MAX_PARENTS} jobs.")


def _check_target(submission: Submission, dataset: DatasetView) -> None:
    columns = [column.name for column in dataset.columns]
    if submission.target is None:
        if submission.type in NEEDS_TARGET:
            raise InvalidArgument(
                f"A {submission.type} job needs a target: the column to predict.",
                names_hint("", columns, f"columns of {dataset.dataset}"),
            )
    elif submission.target not in columns:
        raise InvalidArgument(
            f"{dataset.dataset} has no column {submission.target!r} to be the target.",
            names_hint(submission.target, columns, "columns"),
        )


def check_config(config: Mapping[str, Any], framework: Framework) -> FrameworkConfig:
    """A framework's config as its model.

    Raises:
        InvalidArgument: names the key that will not do, and what would.
        FrameworkUnavailable: the framework cannot check it.
    """
    with guarded(framework.name, "check its config"):
        try:
            return framework.Config.model_validate(dict(config))
        except ValidationError as error:
            raise _complaint(error, framework) from None


def _complaint(error: ValidationError, framework: Framework) -> InvalidArgument:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    known = sorted(framework.Config.model_fields)
    if first["type"] == "extra_forbidden":
        close = get_close_matches(key, known, n=1)
        nearest = f"Did you mean {close[0]!r}? " if close else ""
        if not close and (others := frameworks_with(key)):
            nearest = f"It is a key of {' and '.join(others)}: name one as the framework. "
        return InvalidArgument(
            f"{framework.name} has no config key {key!r}.",
            f"{nearest}Its keys: {', '.join(known)}. See training_frameworks().",
        )
    where = f"config.{key}" if key else "config"
    complaint = first["msg"].removeprefix("Value error, ").rstrip(".")
    return InvalidArgument(
        f"{where}: {complaint} (given: {str(first['input'])[:80]}).",
        f"{framework.name}'s config keys: {', '.join(known)}. See training_frameworks().",
    )
