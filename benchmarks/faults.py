"""Plant faults in generated traffic and see what `telemetry_anomalies` and `_correlate` find.

Each seed is a day of several services with one fault of each kind, and another day of the same
seed without any. What counts as found and as a false alarm is stated in
tests/services/telemetry/anomalies/scoring.py, how the traffic comes about in traffic.py beside it.
The cause
of a fault that began with a deployment is that deployment, else the fault's own signal; the
question is asked some minutes after its begin, and if others suffer, in half of the cases about one
of them.
"""

import argparse
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import anyio

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.correlating import Correlator

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.services.telemetry.anomalies.experiment import Outcome, run_quiet, run_seed
from tests.services.telemetry.anomalies.traffic import FAULTS

RECALL_FLOOR = 0.9
FALSE_ALARMS_CEILING = 1.0
RANKED_FLOOR = 0.8


async def experiment(seeds: Iterable[int], size: float, rate: float) -> list[Outcome]:
    """The outcome of each seed, each in a database of its own."""
    outcomes = []
    store = SqliteRecordStore()
    for seed in seeds:
        async with empty_database() as database:
            finder = AnomalyFinder(database)
            correlator = Correlator(database, finder)
            outcome = await run_seed(
                database, store, finder, correlator, seed, size=size, rate=rate
            )
        async with empty_database() as database:
            finder = AnomalyFinder(database)
            outcome.false_alarms_quiet = await run_quiet(database, store, finder, seed, rate=rate)
        outcomes.append(outcome)
    return outcomes


@asynccontextmanager
async def empty_database() -> AsyncIterator[SqliteDatabase]:
    with tempfile.TemporaryDirectory() as folder:
        database = SqliteDatabase(Path(folder) / "hub.db")
        await database.upgrade()
        yield database
        await database.close()


def report(outcomes: list[Outcome]) -> bool:
    """Print the table; whether every floor is held."""
    print(f"{'fault':<10}{'recall':>8}{'delay':>8}{'rank of the cause':>20}{'in first 3':>12}")
    for kind in FAULTS:
        results = [o.faults[kind] for o in outcomes]
        recall = sum(one.found for one in results) / len(results)
        delays = [one.delay for one in results if one.delay is not None]
        ranks = [one.rank for one in results]
        first = sum(rank is not None and rank <= 3 for rank in ranks) / len(ranks)
        shown = " ".join("-" if rank is None else str(rank) for rank in sorted(ranks, key=_last))
        delay = f"{median(delays):.0f} min" if delays else "-"
        print(f"{kind:<10}{recall:>8.2f}{delay:>8}  {shown:>18}{first:>12.2f}")
    every = [one for o in outcomes for one in o.faults.values()]
    recall = sum(one.found for one in every) / len(every)
    ranked = sum(one.rank is not None and one.rank <= 3 for one in every) / len(every)
    planted = sum(o.false_alarms for o in outcomes) / len(outcomes)
    quiet = sum(o.false_alarms_quiet for o in outcomes) / len(outcomes)
    seconds = max(o.seconds for o in outcomes)
    print(
        f"\n{len(outcomes)} seeds: recall {recall:.3f} (floor {RECALL_FLOOR}), "
        f"false alarms per day {planted:.2f} with faults and {quiet:.2f} without "
        f"(ceiling {FALSE_ALARMS_CEILING}), "
        f"cause in the first three {ranked:.3f} (floor {RANKED_FLOOR}); "
        f"slowest question over a day {seconds:.2f} s"
    )
    held = recall >= RECALL_FLOOR and ranked >= RANKED_FLOOR
    return held and max(planted, quiet) <= FALSE_ALARMS_CEILING


def _last(rank: int | None) -> int:
    return 10**6 if rank is None else rank


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--size", type=float, default=1.0, help="of the planted effects")
    parser.add_argument("--rate", type=float, default=1.0, help="of all arrivals")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    outcomes = anyio.run(experiment, seeds, options.size, options.rate)
    return 0 if report(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
