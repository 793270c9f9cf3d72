"""Optuna, fed from the rows of a sweep at every question: it keeps nothing, and no second storage.

What is chosen for trial n depends on the sweep, on n, and on what the trials before have shown by
then. The samplers' randomness is seeded by n, so that a process that takes over goes on alike.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from mcp_hub.adapters.errors import Unavailable

_FIRST_RANDOM = 8
_FULL_TRIALS = 4
"""How many trials must have gone to their end before one is pruned."""
_LEAST_FOR_IMPORTANCES = 10


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a trial: `points` are the metric's values by step."""

    status: str
    params: Mapping[str, Any]
    value: float | None = None
    points: Mapping[int, float] = field(default_factory=dict)


def check_installed() -> None:
    """Raises Unavailable where Optuna is missing."""
    if find_spec("optuna") is None:
        raise Unavailable(
            "Sweeps need the package optuna, which is not installed.",
            'Install it: pip install "mcp-hub[sweep]".',
        )


def suggest(
    sweep_id: str, space: Mapping[str, Any], direction: str, seen: Sequence[Seen]
) -> dict[str, Any]:
    """The settings for a further trial: at random at first, then by TPE (Bergstra et al., 2011)."""
    study = _study(sweep_id, space, direction, seen)
    trial = study.ask(_distributions(space))
    return dict(trial.params)


def to_prune(
    sweep_id: str,
    space: Mapping[str, Any],
    direction: str,
    seen: Sequence[Seen],
    number: int,
    least: int,
) -> bool:
    """Whether the trial at that place is worse than the median of the others at its step, and has
    reported `least` values or more."""
    if len(seen[number].points) < least:
        return False
    optuna = _optuna()
    study = _study(sweep_id, space, direction, seen)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_FULL_TRIALS)
    return bool(pruner.prune(study, study.trials[number]))


def importances(
    sweep_id: str, space: Mapping[str, Any], direction: str, seen: Sequence[Seen]
) -> dict[str, float] | None:
    """How much each setting explains of being among the better trials (PED-ANOVA); shares of 1.

    None before there are enough trials, or where their values do not differ.
    """
    values = {trial.value for trial in seen if trial.status == "complete"}
    complete = [trial for trial in seen if trial.status == "complete"]
    if len(complete) < _LEAST_FOR_IMPORTANCES or len(values) < 2 or find_spec("optuna") is None:
        return None
    optuna = _optuna()
    study = _study(sweep_id, space, direction, complete)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: round(float(share), 3) for key, share in shares.items()}


def _study(sweep_id: str, space: Mapping[str, Any], direction: str, seen: Sequence[Seen]) -> Any:
    optuna = _optuna()
    seed = zlib.crc32(f"{sweep_id}:{len(seen)}".encode())
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=_FIRST_RANDOM, constant_liar=True
    )
    study = optuna.create_study(direction=direction, sampler=sampler)
    distributions = _distributions(space)
    states = optuna.trial.TrialState
    for trial in seen:
        state = {
            "complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL
        }.get(trial.status, states.RUNNING)  # fmt: skip
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=trial.value if state == states.COMPLETE else None,
                params=dict(trial.params),
                distributions=distributions,
                intermediate_values=dict(trial.points),
            )
        )
    return study


def _distributions(space: Mapping[str, Any]) -> dict[str, Any]:
    distributions = _optuna().distributions
    made: dict[str, Any] = {}
    for key, given in space.items():
        if given["type"] == "categorical":
            made[key] = distributions.CategoricalDistribution(given["choices"])
            continue
        kind = {"int": distributions.IntDistribution, "float": distributions.FloatDistribution}
        made[key] = kind[given["type"]](
            given["low"], given["high"], log=given["log"], step=given["step"]
        )
    return made


@cache
def _optuna() -> ModuleType:
    check_installed()
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
