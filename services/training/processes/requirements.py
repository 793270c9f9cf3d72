"""The rules that a job's data set must meet before anything is trained on it.

Submitting checks what is known at once: that the rules can be checked, and of which columns. The
rows are checked by each attempt, in its own process and under its limits: a version never changes,
so that it is the same rows then, and a hub need not read them while somebody waits for it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.rules import parse_rules
from mcp_hub.services.data.views import DatasetValidation, RuleResult
from mcp_hub.services.training.run import run

_CHECKS_TOLD = 5
_ROWS_TOLD = 5
_CHARACTERS = 120


def drift_references(rules: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """The data sets (name:version) that the rules measure drift from."""
    return sorted({rule["drift_from"] for rule in rules or () if rule.get("drift_from")})


def check_requirements(task: Mapping[str, Any], folder: Path) -> None:
    """Check the data set of the task in `folder` against the rules that it requires.

    Raises:
        InvalidArgument: a check fails; says which, what was expected and found, and in which rows.
    """
    if not task["require"]:
        return
    # Importing polars takes long: only where there is something to check.
    from mcp_hub.services.data.analysis import read_frame, validate_frame

    def frame_of(file: str, format: str, options: Mapping[str, Any]) -> Any:
        return read_frame(folder / file, format, options)

    frame = frame_of(task["dataset_file"], task["dataset_format"], task["dataset_options"])
    references = {name: frame_of(**staged) for name, staged in task["references"].items()}
    found = validate_frame(frame, task["dataset"], parse_rules(task["require"]), references)
    if not found.passed:
        raise _unmet(found)
    run.log(f"{task['dataset']} meets all that is required: {len(found.results)} checks.")


def _unmet(found: DatasetValidation) -> InvalidArgument:
    failed = [result for result in found.results if not result.passed]
    told = "; ".join(map(_told, failed[:_CHECKS_TOLD]))
    more = f"; and {len(failed) - _CHECKS_TOLD} more" if len(failed) > _CHECKS_TOLD else ""
    return InvalidArgument(
        f"{found.dataset} does not meet what is required: {told}{more}.",
        f"dataset_validate({found.dataset!r}, rules) tells more. Register mended data and train on "
        "that, or require less.",
    )


def _told(result: RuleResult) -> str:
    column = f"{result.column} " if result.column else ""
    said = (
        f"{column}{result.rule} expected {_short(result.expected)}, found {_short(result.actual)}"
    )
    if not result.failing:
        return said
    rows = ", ".join(map(str, result.failing_rows[:_ROWS_TOLD]))
    return f"{said} in {result.failing} rows (from 0: {rows})"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"
