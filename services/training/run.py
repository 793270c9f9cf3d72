"""The run protocol: how a job's process reports, one JSON object a line.

`from mcp_hub import run` in any Python job; other languages append the same lines to the file
named in `MCP_HUB_EVENTS`. Without that variable (run by hand) the lines go to standard error.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from mcp_hub.services.registry.views import Signature


class Run:
    """Reports of one attempt. Each method appends one whole line, by one write to a file that is
    opened for it: threads and forked processes may report at the same time."""

    def metric(self, key: str, value: float, step: int | None = None) -> None:
        """Report a metric, at a `step` (epoch, fold, …) where there is one.

        Raises:
            ValueError: it is no finite number. The hub ends the attempt, caught or not.
        """
        value = float(value)
        self._write({"type": "metric", "key": key, "value": value, "step": step})
        if not math.isfinite(value):
            raise ValueError(f"metric {key!r} is {value}, no finite number")

    def progress(self, done: float, total: float | None = None) -> None:
        """Report how much is done, in any unit, of `total` where it is known."""
        self._write({"type": "progress", "done": done, "total": total})

    def param(self, key: str, value: Any) -> None:
        """Report a parameter that was chosen (JSON)."""
        self._write({"type": "param", "key": key, "value": value})

    def tag(self, key: str, value: str) -> None:
        """Tag the model that this job registers."""
        self._write({"type": "tag", "key": key, "value": value})

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        self._write({"type": "log", "text": text})

    def artifact(self, path: str | Path, name: str | None = None) -> None:
        """Keep the file `path`, inside the job's folder, with the model under `name`."""
        self._write({"type": "artifact", "path": str(path), "name": name or Path(path).name})

    def model(
        self,
        path: str | Path,
        signature: Signature | None = None,
        flavor: str = "onnx",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Register the file `path`, inside the job's folder, as the job's model when it ends.

        Without a `signature` it has the one that is read from the file, as `model_register` does.
        Its metrics are the newest reported, but for those that `metrics` gives: of a model that is
        not the last one trained, such as that of the best epoch.
        """
        self._write(
            {
                "type": "model",
                "path": str(path),
                "flavor": flavor,
                "signature": signature.model_dump(mode="json") if signature else None,
                "metrics": dict(metrics or {}),
            }
        )

    def checkpoint(self, path: str | Path, step: int | None = None) -> None:
        """Keep the file `path`, inside the job's folder, for the next attempt to go on from.

        `step` is the last one (epoch) that it holds; report the metrics of that step before. The
        file must be whole: write it under another name and rename it. The newest one is kept, so
        the same name may be used again and again.
        """
        reported = Path(path)
        if "MCP_HUB_EVENTS" in os.environ:
            # The worker takes the reported file away, and may come to it after the next one.
            reported = reported.with_name(f"{reported.name}.{time.monotonic_ns()}")
            os.link(path, reported)
        self._write({"type": "checkpoint", "path": str(reported), "step": step})

    def evaluation(self, rows: int, metrics: dict[str, float], report: dict[str, Any]) -> None:
        """Keep an evaluation of the job's model; of the hub's own jobs only."""
        self._write({"type": "evaluation", "rows": rows, "metrics": metrics, "report": report})

    def dataset(
        self, path: str | Path, rows: int, kept: list[str], added: list[dict[str, str]]
    ) -> None:
        """Register the Parquet file `path` as a data set; of the hub's own jobs only.

        `kept` are columns of the job's data set, `added` the others as {name, dtype, kind}.
        """
        self._write(
            {"type": "dataset", "path": str(path), "rows": rows, "kept": kept, "added": added}
        )

    def error(self, code: str, message: str, hint: str | None = None) -> None:
        """Say why the attempt fails; the process should then end with a non-zero status."""
        self._write({"type": "error", "code": code, "message": message, "hint": hint})

    def _write(self, event: dict[str, Any]) -> None:
        line = (json.dumps(event, default=str) + "\n").encode()
        with _events_file() as file:
            while line:
                line = line[file.write(line) :]


def _events_file() -> FileIO:
    """Unbuffered."""
    path = os.environ.get("MCP_HUB_EVENTS")
    return FileIO(path, "a") if path else FileIO(os.dup(2), "a")


run = Run()
"""The run of this process."""
