"""Tables with a column of every kind, and values missing in each."""

import random
from datetime import datetime, timedelta

import polars as pl

_WORDS = ["größe", "Привет", "quick", "brown", "fox", "naïve", "東京", "🚀", "slow", "turtle"]


def mixed_table(rows: int = 80, seed: int = 0, missing: float = 0.1) -> pl.DataFrame:
    """A number, a boolean, a category, a date and a text, each in part missing; no target."""
    rng = random.Random(seed)

    def known(value: object) -> object:
        return None if rng.random() < missing else value

    start = datetime.fromisoformat("2024-01-01")
    return pl.DataFrame(
        {
            "size": [known(rng.gauss(50, 10)) for _ in range(rows)],
            "count": [known(rng.randrange(100)) for _ in range(rows)],
            "member": [known(rng.random() < 0.4) for _ in range(rows)],
            "city": [known(rng.choice(["Łódź", "Zürich", "Αθήνα"])) for _ in range(rows)],
            "seen": [known(start + timedelta(hours=rng.randrange(20_000))) for _ in range(rows)],
            "note": [known(" ".join(rng.choices(_WORDS, k=6))) for _ in range(rows)],
        },
        schema={
            "size": pl.Float64, "count": pl.Int64, "member": pl.Boolean, "city": pl.String,
            "seen": pl.Datetime("us"), "note": pl.String,
        },
    )  # fmt: skip


def json_row(frame: pl.DataFrame, row: int) -> dict[str, object]:
    """A row as JSON has it."""
    values = frame.row(row, named=True)
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in values.items()}
