"""From the data set's file to matrices, by the columns and features of `sklearn`."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.nodejs import NodejsConfig
from mcp_hub.services.training.frameworks.tabular import TableConfig
from mcp_hub.services.training.frameworks.tabular.features import Features
from mcp_hub.services.training.frameworks.tabular.rows import Data, Rows, split_rows
from mcp_hub.services.training.frameworks.tabular.table import read_table_and_rows
from mcp_hub.services.training.frameworks.tabular.targets import Target
from mcp_hub.services.training.run import Run

_MOST_CELLS = 200_000_000
_FEWEST_ASIDE = 8


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows split as `sklearn` splits them, and the features that were learned from the first part.

    `matrix` is float32 [rows to learn from, width]; `aside` are the rows of it that decide when
    to stop, maybe none. `raw` are the rows held out as JSON has them.
    """

    learned: Data
    held_out: Data
    raw: pl.DataFrame
    features: Features
    matrix: NDArray[np.float32]
    fitted: Rows
    aside: Rows
    shift: float
    scale: float

    @property
    def targets(self) -> NDArray[np.float32]:
        """Of the rows to learn from: the classes' positions, or numbers of mean 0 and spread 1."""
        values = self.learned.target.values
        if self.learned.classes:
            return values.astype(np.float32)
        return ((values - self.shift) / self.scale).astype(np.float32)


def prepare(task: TrainingTask, config: NodejsConfig, run: Run) -> Prepared:
    """Read, choose columns, split, and make the matrix.

    Raises:
        InvalidArgument: the data or the config cannot give a model.
        LimitExceeded: the matrix would not fit.
    """
    data, plain = read_table_and_rows(task, config, run)
    train_rows, test_rows = split_rows(data.target, config)
    learned, held_out = data.part(train_rows), data.part(test_rows)
    features = Features(data.inputs, config.max_text_features)
    encoded = features.fit(learned.arrays)
    width = encoded.numbers.shape[1] + (encoded.rest.shape[1] if encoded.rest is not None else 0)
    if width * len(learned) > _MOST_CELLS:
        raise LimitExceeded(
            f"{len(learned)} rows of {width} features are {width * len(learned):,} numbers; a "
            f"dense network takes at most {_MOST_CELLS:,}.",
            "Lower max_text_features, drop columns, or use sklearn, which keeps them sparse.",
        )
    matrix = features.matrix(encoded, scaled=True)
    if not isinstance(matrix, np.ndarray):
        matrix = matrix.toarray()
    fitted, aside = _set_aside(learned.target, config)
    values = learned.target.values
    numbers = not learned.classes
    return Prepared(
        learned=learned,
        held_out=held_out,
        raw=plain[test_rows],
        features=features,
        matrix=matrix.astype(np.float32),
        fitted=fitted,
        aside=aside,
        shift=float(values.mean()) if numbers else 0.0,
        scale=(float(values.std()) or 1.0) if numbers else 1.0,
    )


def _set_aside(target: Target, config: NodejsConfig) -> tuple[Rows, Rows]:
    """Positions of the rows to fit on and of those that decide when to stop: none if too few."""
    every, none = np.arange(len(target.values)), np.arange(0)
    if round(config.validation_size * len(every)) < _FEWEST_ASIDE:
        return every, none
    split = TableConfig(test_size=config.validation_size, seed=config.seed)
    try:
        return split_rows(target, split)
    except InvalidArgument:
        # A class has too few rows to spare one.
        return every, none
