"""The main job, as an agent does it: through a real MCP client, against a real `mcp-hub`."""

import csv
import fcntl
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp.types import Implementation, TextContent
from rich.console import Console

from mcp_hub.adapters.errors import Internal, Unavailable

MODEL = "biopsy-classifier"
_SHOWN_CHARACTERS = 480
_STATE = "state"
_WORKER_IDLE_S = 1
_NETWORKS = ("pytorch", "nodejs")
_CLIENT = Implementation(name="mcp-hub demo", version=version("mcp-hub"))


def run_demo(out: Console) -> None:
    """Run the main job on scikit-learn's breast cancer data, and print each call.

    Raises:
        Internal: something is not as promised.
        Unavailable: the server ended.
    """
    out.print(f"mcp-hub {_CLIENT.version}: the main job, in a temporary folder", style="bold")
    with tempfile.TemporaryDirectory(prefix="mcp-hub-demo-") as folder:
        rows = _write_biopsies(Path(folder) / "biopsies.csv")
        config = _write_config(Path(folder))
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "mcp_hub", "--config", str(config)], cwd=folder
        )
        try:
            anyio.run(_act, server, rows, out)
        except ExceptionGroup as group:  # the client's task groups wrap what ends them
            raise _first_cause(group) from None
        finally:
            _stop_worker(Path(folder) / _STATE)


async def _act(
    server: StdioServerParameters, rows: Sequence[Mapping[str, Any]], out: Console
) -> None:
    began = time.perf_counter()
    async with Client(server, client_info=_CLIENT) as client:
        agent = _Agent(client, out)
        await _main_job(agent, rows)
        await _other_frameworks(agent)
    out.print(f"\nAll as promised: {agent.calls} calls in {_since(began)}.", style="bold green")


async def _main_job(agent: "_Agent", rows: Sequence[Mapping[str, Any]]) -> None:
    agent.say("An agent connects, and sees what it can do")
    await agent.list_tools()

    agent.say("It looks at the data: 569 biopsies of breast tumours, ten measurements each")
    data = await agent.call("dataset_register", name="biopsies", source="biopsies.csv")
    profile = await agent.call("dataset_profile", dataset="biopsies", target="diagnosis")
    expect(data["rows"] == profile["rows"] == len(rows), "every row is registered")

    agent.say("It trains a model, and follows the job")
    submitted = await agent.call(
        "training_submit",
        name=MODEL,
        type="classification",
        framework="sklearn",
        dataset="biopsies",
        target="diagnosis",
    )
    job = await _followed(agent, submitted)
    expect(job["status"] == "succeeded", f"the job succeeds, not {job['status']}: {job['error']}")
    expect(agent.notices > 0, "progress is notified while the job runs")

    agent.say("The model is version 1, with its metrics, signature and origin")
    expect(job["model"] == f"{MODEL}:1", f"the model is version 1, not {job['model']}")
    model = await agent.call("model_get", model=job["model"])
    expect(model["job_id"] == job["job_id"], "the version names its job")

    agent.say("A gate that the model does not meet keeps it from being champion")
    await _promote(agent, {"min_metric": {"accuracy": 0.999}}, promoted=False)

    agent.say("A gate that it meets makes it champion")
    await _promote(agent, {"min_metric": {"accuracy": 0.9, "f1_macro": 0.9}}, promoted=True)

    agent.say("Anyone can now ask the champion")
    patients = [{k: v for k, v in row.items() if k != "diagnosis"} for row in (rows[0], rows[-1])]
    answer = await agent.call("predict", model=f"{MODEL}@champion", inputs=patients)
    truth = [row["diagnosis"] for row in (rows[0], rows[-1])]
    expect(answer["predictions"] == truth, f"the two patients are {truth}")

    agent.say("A mistake is answered with what would be right, and changes nothing")
    await agent.call("predict", failing=True, model=f"{MODEL}@champion", inputs=[{"radius": 1}])

    agent.say("What happened, kept for whoever asks later")
    jobs = await agent.call("training_list")
    expect([item["job_id"] for item in jobs["items"]] == [job["job_id"]], "the job is listed")
    lineage = await agent.call("model_lineage", model=f"{MODEL}@champion")
    decisions = [promotion["promoted"] for promotion in lineage["promotions"]]
    expect(sorted(decisions) == [False, True], "both decisions are kept")


async def _other_frameworks(agent: "_Agent") -> None:
    agent.say("It trains networks too, by the frameworks that are installed")
    listed = await agent.call("training_frameworks")
    for framework in listed["items"]:
        name = framework["name"]
        if name not in _NETWORKS:
            continue
        if not framework["available"]:
            agent.note(f"{name} is left out. {framework['missing']}")
            continue
        submitted = await agent.call(
            "training_submit",
            name=f"{MODEL}-{name}",
            type="classification",
            framework=name,
            dataset="biopsies",
            target="diagnosis",
            config={"epochs": 20},
        )
        job = await _followed(agent, submitted)
        if job["status"] == "failed" and job["error"]["code"] == "unavailable":
            # Such as a first job of nodejs without a network to install TensorFlow.js from.
            agent.note(f"{name} is left out. {job['error']['message']} {job['error']['hint']}")
            continue
        expect(job["status"] == "succeeded", f"{name} succeeds: {job['error']}")
        expect(job["metrics"]["accuracy"] > 0.85, f"{name} tells most biopsies right")


async def _followed(agent: "_Agent", job: dict[str, Any]) -> dict[str, Any]:
    """The job when it has ended."""
    job_id = job["job_id"]
    while job["status"] in ("queued", "running"):
        job = await agent.call("training_status", job_id=job_id, wait_s=50)
    return job


async def _promote(agent: "_Agent", gates: Mapping[str, Any], *, promoted: bool) -> None:
    decision = await agent.call(
        "model_promote",
        model=f"{MODEL}:1",
        alias="champion",
        gates=gates,
        reason="first model" if promoted else "only the best will do",
    )
    expect(decision["promoted"] is promoted, f"promoted is {promoted}")


def expect(condition: bool, promise: str) -> None:
    """Hold the hub to a promise.

    Raises:
        Internal: it is not kept.
    """
    if not condition:
        raise Internal(f"The demo expected that {promise}.", "Run `mcp-hub doctor`.")


def _first_cause(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError):
        return Unavailable(f"mcp-hub stopped answering: {error}.", "What it logged is above.")
    return error


class _Agent:
    """Calls tools and prints what goes back and forth."""

    def __init__(self, client: Client, out: Console) -> None:
        self.calls = 0
        self.notices = 0
        self._client = client
        self._out = out
        self._step = 0

    def say(self, text: str) -> None:
        self._step += 1
        self._out.print(f"\n{self._step}. {text}", style="bold")

    def note(self, text: str) -> None:
        self._out.print(f"  {text}", style="yellow", soft_wrap=True, highlight=False, markup=False)

    async def list_tools(self) -> None:
        began = time.perf_counter()
        listed = await self._client.list_tools()
        names = " ".join(tool.name for tool in listed.tools)
        self._out.print("→ tools/list", style="cyan")
        self._answer(f"{len(listed.tools)} tools: {names}", began)

    async def call(self, tool: str, *, failing: bool = False, **arguments: Any) -> dict[str, Any]:
        """The result of a call that succeeds, or the error of one that is `failing`."""
        self.calls += 1
        shown = ", ".join(f"{name}={json.dumps(value)}" for name, value in arguments.items())
        self._out.print(f"→ {tool}({_cut(shown)})", style="cyan", soft_wrap=True)
        began = time.perf_counter()
        result = await self._client.call_tool(tool, arguments, progress_callback=self._notice)
        text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
        self._answer(text, began)
        expect(bool(result.is_error) is failing, f"{tool} {'fails' if failing else 'succeeds'}")
        content: dict[str, Any] = result.structured_content or {}
        return content

    async def _notice(self, progress: float, total: float | None, message: str | None) -> None:
        self.notices += 1
        share = f"{progress:g}/{total:g}" if total else f"{progress:g}"
        self._out.print(f"  ⋯ {share} {message or ''}", style="dim", soft_wrap=True)

    def _answer(self, text: str, began: float) -> None:
        self._out.print(f"← {_cut(text)}", end="", soft_wrap=True)
        self._out.print(f"  {_since(began)}", style="green")


def _cut(text: str) -> str:
    left_out = len(text) - _SHOWN_CHARACTERS
    return text if left_out <= 0 else f"{text[:_SHOWN_CHARACTERS]}… {left_out} more characters"


def _since(began: float) -> str:
    seconds = time.perf_counter() - began
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _write_biopsies(path: Path) -> list[dict[str, Any]]:
    """Write the measurements of each biopsy's largest cells, and its diagnosis; the rows."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    columns = {
        index: name.removeprefix("worst ").replace(" ", "_")
        for index, name in enumerate(map(str, data.feature_names))
        if name.startswith("worst ")
    }
    rows = [
        {name: float(values[index]) for index, name in columns.items()}
        | {"diagnosis": str(data.target_names[target])}
        for values, target in zip(data.data, data.target, strict=True)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _write_config(folder: Path) -> Path:
    """A configuration of the demo's own, so that nothing of the user's is read or touched."""
    config = {
        "data_dir": _STATE,
        "roots": ["."],
        "log_level": "warning",
        "training": {"idle_exit_s": _WORKER_IDLE_S},
    }
    path = folder / "mcp-hub.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def _stop_worker(state: Path) -> None:
    """End the demo's worker, which would outlive it, and return when it is gone."""
    if not (state / "worker.lock").exists():
        return
    with closing(sqlite3.connect(state / "hub.db")) as database:
        workers = database.execute("SELECT pid FROM workers").fetchall()
    for (pid,) in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    with (state / "worker.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
