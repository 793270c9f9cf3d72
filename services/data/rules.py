"""Rules that a data set's rows must meet. Light: the tools show their schema at start."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.options import options_error

MAX_RULES = 200

Number = int | float
Value = bool | int | float | str

COLUMN_CHECKS = ("type", "min", "max", "unique", "allowed", "pattern", "max_null_rate")
DATASET_CHECKS = ("min_rows", "no_duplicates")


class Rule(BaseModel):
    """One or several checks of a column, or of the whole data set where `column` is left out.

    Missing values fail no check but max_null_rate.
    """

    model_config = ConfigDict(extra="forbid")

    column: str | None = Field(default=None, description="What the column checks are about")
    type: Literal["number", "integer", "boolean", "string", "datetime"] | None = Field(
        default=None, description="Every value is of this type"
    )
    min: Number | str | None = Field(
        default=None, description="Smallest number, or ISO 8601 date for dates"
    )
    max: Number | str | None = Field(default=None, description="Largest number or date")
    unique: Literal[True] | None = Field(default=None, description="No value appears twice")
    allowed: list[Value] | None = Field(
        default=None, description="Every value is one of these", min_length=1
    )
    pattern: str | None = Field(
        default=None, description="Regular expression that every whole text matches"
    )
    max_null_rate: float | None = Field(
        default=None, description="Share of values that may be missing", ge=0, le=1
    )
    min_rows: int | None = Field(default=None, description="Data set: rows at least", ge=0)
    no_duplicates: Literal[True] | None = Field(
        default=None, description="Data set: no row appears twice"
    )
    drift_from: str | None = Field(
        default=None,
        description="Another data set (name or name:version): column, or every column but "
        "row ids, is distributed as there",
    )
    max_drift: float = Field(
        default=0.2,
        description="With drift_from: the largest population stability index; 0.1 is a small "
        "shift, 0.25 a large one",
        gt=0,
    )

    def checks(self, names: Sequence[str]) -> list[str]:
        """Which of the checks `names` this rule makes."""
        return [name for name in names if getattr(self, name) is not None]


def parse_rules(rules: Sequence[Rule | Mapping[str, Any]]) -> list[Rule]:
    """The rules, each of which checks something that can be checked.

    Raises:
        InvalidArgument: one has an unknown key, a wrong value, or nothing to check.
    """
    if not 1 <= len(rules) <= MAX_RULES:
        raise InvalidArgument(
            f"There are {len(rules)} rules; give 1 to {MAX_RULES}.",
            'Such as [{"column": "age", "type": "number", "min": 0, "max_null_rate": 0.1}, '
            '{"min_rows": 100, "no_duplicates": true}].',
        )
    return [_parse(rule, number) for number, rule in enumerate(rules)]


def _parse(rule: Rule | Mapping[str, Any], number: int) -> Rule:
    if not isinstance(rule, Rule):
        try:
            rule = Rule.model_validate(rule)
        except ValidationError as error:
            raise options_error(error, Rule, f"key of rules[{number}]") from None
    column_checks = rule.checks(COLUMN_CHECKS)
    if rule.column is None and column_checks:
        raise InvalidArgument(
            f"rules[{number}] checks {', '.join(column_checks)} of no column.",
            'Name it: {"column": "…", …}.',
        )
    dataset_checks = rule.checks(DATASET_CHECKS)
    if rule.column is not None and dataset_checks:
        raise InvalidArgument(
            f"rules[{number}] names a column, but {', '.join(dataset_checks)} is about all rows.",
            "Put it into a rule without column.",
        )
    if not (column_checks or dataset_checks or rule.drift_from):
        raise InvalidArgument(
            f"rules[{number}] checks nothing.",
            f"Give column and one of {', '.join(COLUMN_CHECKS)}; or one of "
            f"{', '.join(DATASET_CHECKS)}; or drift_from.",
        )
    return rule
