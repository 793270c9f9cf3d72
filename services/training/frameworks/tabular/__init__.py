"""What frameworks that learn from tables share: from the rows of a data set to features, and from a
fitted model to a file that is served.

This module is light: the server imports it to validate a job's config.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.training.frameworks.base import FrameworkConfig

InputKind = Literal["number", "boolean", "category", "text", "datetime"]
"""What a column that a model uses may mean."""


class TableConfig(FrameworkConfig):
    """How a table is read and split, by whatever learns from it."""

    test_size: float = Field(
        default=0.2, gt=0, lt=1, description="The share of rows held out for the evaluation"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Fixes the split and the training")
    columns: dict[str, InputKind] = Field(
        default={}, description="The kind of a column, where the inferred one is wrong"
    )
    drop: list[str] = Field(default=[], description="Columns that the model must not use")
    max_text_features: int = Field(
        default=10_000, ge=1, le=100_000, description="Most words kept of each text column"
    )

    def check_columns(self, columns: Sequence[str], target: str | None) -> None:
        features = [name for name in columns if name != target]
        for key, names in (("drop", self.drop), ("columns", list(self.columns))):
            for name in names:
                if name == target:
                    raise InvalidArgument(
                        f"config.{key} names the target, {name!r}.", "Name other columns there."
                    )
                if name not in features:
                    raise InvalidArgument(
                        f"config.{key} names {name!r}, which is no column of the data.",
                        names_hint(name, features, "columns"),
                    )
        if both := set(self.drop) & set(self.columns):
            raise InvalidArgument(
                f"{min(both)!r} is in config.drop and in config.columns.",
                "Leave it in one of them.",
            )
