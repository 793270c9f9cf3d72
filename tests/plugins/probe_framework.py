"""A framework that does what its config says: how the tests make a job behave, well or badly."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from probe_troubles import TROUBLES

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.views import InputField, OutputField, Signature
from mcp_hub.services.training.frameworks.base import FrameworkConfig, TrainingTask
from mcp_hub.services.training.run import Run

SIGNATURE = Signature(
    inputs=[InputField(name="x", dtype="float32", shape=[None, 1], kind="number")],
    outputs=[OutputField(name="y", dtype="float32", shape=[None, 1], role="prediction")],
)


IDENTITY = base64.b64decode(
    "CAgSADo/ChAKAXgSAXkiCElkZW50aXR5EgVwcm9iZVoRCgF4EgwKCggBEgYKAAoCCAFiEQoBeRIMCgoIARIGCgAKAggB"
    "QgQKABAR"
)
"""An ONNX model whose output y is its input x."""


def model_of(job_id: str) -> bytes:
    """The model of a job: each has bytes of its own."""
    # Field 6 of an ONNX model is its doc string.
    return IDENTITY + bytes([6 << 3 | 2, len(job_id)]) + job_id.encode()


class ProbeConfig(FrameworkConfig):
    action: str = "succeed"
    value: float = 0.5
    steps: int = 3
    flag: str | None = None
    """A file that must exist before the job goes on, or that the job writes its pid to."""


class ProbeFramework:
    name: ClassVar[str] = "probe"
    description: ClassVar[str] = "Behaves as told."
    types: ClassVar[tuple[str, ...]] = ("probe", "classification")
    Config: ClassVar[type[FrameworkConfig]] = ProbeConfig
    preload: ClassVar[tuple[str, ...]] = ()

    def missing(self) -> str | None:
        return None

    def train(self, task: TrainingTask, run: Run) -> None:
        config = ProbeConfig.model_validate(task.config)
        if config.action in TROUBLES:
            TROUBLES[config.action](config.flag or "")
            config.action = "succeed"
        ACTIONS[config.action](task, config, run)


class SecondProbe(ProbeFramework):
    """The same under another name: a framework beside it."""

    name: ClassVar[str] = "second_probe"


def succeed(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    for step in range(config.steps):
        run.progress(step + 1, config.steps)
        run.metric("score", config.value * (step + 1), step)
    print(f"trained {task.name}")
    Path("model.bin").write_bytes(model_of(task.job_id))
    Path("notes.json").write_text("{}")
    run.param("steps", config.steps)
    run.tag("kind", "probe")
    run.artifact("notes.json")
    run.model("model.bin", SIGNATURE)


def wait_for_flag(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    assert config.flag is not None
    run.log("waiting")
    give_up_at = time.monotonic() + 120
    while not Path(config.flag).exists():
        # The test may have been killed before it could raise the flag.
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    succeed(task, config, run)


def report_then_wait(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    """Report three steps; where the value is 0, wait to be cancelled before the end."""
    for step in range(3):
        run.metric("score", config.value, step)
    if config.value:
        succeed(task, config, run)
    else:
        wait_for_flag(task, config, run)


def fail_once(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    if task.attempt == 1:
        run.metric("score", 9.0, 0)
        run.metric("score", 9.0, 7)
        raise RuntimeError("the first attempt fails")
    succeed(task, config, run)


def keep_checkpoints(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    """Take steps with a checkpoint each, and be killed after the second one of attempt 1."""
    done = int(task.checkpoint.read_text().split()[0]) if task.checkpoint else 0
    print(f"begins after {done}")
    for step in range(done + 1, config.steps + 1):
        run.metric("score", task.attempt * 100 + step, step)
        Path("state.part").write_text(f"{step} {task.job_id}")
        Path("state.part").rename("state")
        run.checkpoint("state", step)
        if step == 2 and task.attempt == 1:
            run.metric("score", -1, step + 1)
            os.kill(os.getpid(), signal.SIGKILL)
    run.artifact("state")
    succeed_with_model(task, run)


def offer_no_checkpoint(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    with Path(os.environ["MCP_HUB_EVENTS"]).open("a") as events:
        for path in ("nowhere", "/etc/hostname"):
            events.write(json.dumps({"type": "checkpoint", "path": path, "step": 1}) + "\n")
    succeed_with_model(task, run)


def succeed_with_model(task: TrainingTask, run: Run) -> None:
    Path("model.bin").write_bytes(model_of(task.job_id))
    run.model("model.bin", SIGNATURE, metrics={"of_the_best": 7.0})


def crash(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    print("about to crash", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)


def raise_error(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    raise InvalidArgument("The data will not do.", "Bring other data.")


def leave(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    os._exit(3)


def hang(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if config.flag:
        Path(config.flag).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def leave_daemon(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    assert config.flag is not None
    program = f"import os,time;open({config.flag!r},'w').write(str(os.getpid()));time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", program])
    while not Path(config.flag).exists() or not Path(config.flag).read_text():
        time.sleep(0.02)
    succeed(task, config, run)


def flood(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    while True:
        print("x" * 1000)


def report_no_model(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    Path("model.bin").write_text("not a model")
    run.model("model.bin", SIGNATURE)


def report_another_model(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    Path("model.bin").write_bytes(IDENTITY)
    inputs = [SIGNATURE.inputs[0].model_copy(update={"name": "z"})]
    run.model("model.bin", SIGNATURE.model_copy(update={"inputs": inputs}))


def claim_foreign_file(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    run.artifact("/etc/hostname", "stolen")
    succeed(task, config, run)


def leave_only_notes(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    Path("notes.json").write_text("{}")
    run.artifact(config.flag or "notes.json", "notes.json")


def close_output(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    os.close(1)
    os.close(2)
    succeed(task, config, run)


def show_environment(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    inherited = Path("/proc/self/environ").read_bytes().decode().split("\0")
    print(f"TRACEPARENT={os.environ.get('TRACEPARENT')}")
    run.param("variables", sorted({*os.environ, *(line.split("=")[0] for line in inherited)}))
    succeed(task, config, run)


def eat_memory(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(16 * 1024 * 1024))


def report_from_threads(task: TrainingTask, config: ProbeConfig, run: Run) -> None:
    def report(key: str) -> None:
        for step in range(200):
            run.metric(key, step, step)

    threads = [threading.Thread(target=report, args=(f"m{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    succeed(task, config, run)


ACTIONS: dict[str, Callable[[TrainingTask, ProbeConfig, Run], None]] = {
    action.__name__: action
    for action in (
        succeed, wait_for_flag, report_then_wait, fail_once,
        crash, raise_error, leave, hang, leave_daemon, flood,
        report_no_model, report_another_model, claim_foreign_file, close_output,
        leave_only_notes,
        show_environment, eat_memory,
        report_from_threads, keep_checkpoints, offer_no_checkpoint,
    )
}  # fmt: skip
