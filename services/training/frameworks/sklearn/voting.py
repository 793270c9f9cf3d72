"""A few fitted models that decide together, by the mean of their probabilities or numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcp_hub.services.training.frameworks.sklearn.fitting import Model
from mcp_hub.services.training.frameworks.tabular.features import Encoded, Features
from mcp_hub.services.training.frameworks.tabular.reports import Predicted


@dataclass(frozen=True, slots=True)
class Vote:
    """Models fitted on the same features."""

    members: tuple[Model, ...]

    @property
    def features(self) -> Features:
        """The features before all of them."""
        return self.members[0].features

    def predict(self, encoded: Encoded, classes: int) -> Predicted:
        """The mean over the members; shapes and errors as of `Model.predict`."""
        return mean_of([member.predict(encoded, classes) for member in self.members])


def mean_of(predictions: Sequence[Predicted]) -> Predicted:
    """The soft vote: the class of the greatest mean probability, or the mean number."""
    if len(predictions) == 1:
        return predictions[0]
    tables = [p.probabilities for p in predictions if p.probabilities is not None]
    if not tables:
        return Predicted(np.mean([p.values for p in predictions], axis=0))
    table = np.mean(tables, axis=0)
    return Predicted(table.argmax(axis=1), table)
