"""Rows to learn from and to judge by, and how a table is split into them."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.inference.encoding import Arrays
from mcp_hub.services.registry.views import InputField
from mcp_hub.services.training.frameworks.tabular import TableConfig
from mcp_hub.services.training.frameworks.tabular.features import take
from mcp_hub.services.training.frameworks.tabular.targets import Target

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Data:
    """Rows to learn from or to judge by: the model's inputs, and the target of each.

    `width` is about how many features the inputs make, texts aside.
    """

    inputs: list[InputField]
    arrays: Arrays
    target: Target
    width: int

    def __len__(self) -> int:
        return len(self.target.values)

    @property
    def classes(self) -> int:
        """How many classes there are; 0 where numbers are learned."""
        return len(self.target.classes or [])

    def part(self, rows: Rows) -> "Data":
        """Those rows."""
        target = Target(self.target.values[rows], self.target.classes)
        return Data(self.inputs, take(self.arrays, rows), target, self.width)


def split_rows(target: Target, config: TableConfig) -> tuple[Rows, Rows]:
    """The rows to learn from and those held out: scikit-learn's `train_test_split`, stratified.

    At least one row a class is held out.

    Raises:
        InvalidArgument: there are too few rows, or a class has none left to learn from.
    """
    rows, classes = len(target.values), len(target.classes or [])
    held_out = max(ceil(config.test_size * rows), classes, 2)
    if rows - held_out < max(classes, 2):
        raise InvalidArgument(
            f"{held_out} of {rows} rows would be held out, which leaves too few to learn from.",
            f"Give more rows, or a test_size below {config.test_size:g}.",
        )
    train, test = train_test_split(
        np.arange(rows), test_size=held_out, random_state=config.seed,
        stratify=target.values if target.classes else None,
    )  # fmt: skip
    if target.classes:
        learned = np.bincount(target.values[train], minlength=classes)
        if not learned.all():
            label = target.classes[int(np.argmin(learned))]
            raise InvalidArgument(
                f"With test_size={config.test_size:g} no row of the class {label!r} is left to "
                "learn from.",
                "Give more rows of that class, or lower test_size.",
            )
    return train, test
