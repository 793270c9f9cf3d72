"""What a job may do that it should not: each action is told a file, and returns if it can."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MB = 1 << 20


def leave_hidden_daemon(flag: str) -> None:
    """Leave a process that is in another session, has another parent, and ignores SIGTERM."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.environ.clear()
            program = f"import os,time;open({flag!r},'w').write(str(os.getpid()));time.sleep(600)"
            os.execve(sys.executable, [sys.executable, "-I", "-c", program], {})
        os._exit(0)
    os.wait()
    _wait_for(flag)


def leave_daemons_and_hang(flag: str) -> None:
    leave_hidden_daemon(flag)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def fork_without_end(flag: str) -> None:
    """Processes that each replace themselves by two."""
    if os.fork() == 0:
        os.setsid()
        Path(flag).write_text(str(os.getpgid(0)))
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                os.fork()
                if os.fork():
                    os._exit(0)
            time.sleep(0.02)
        os._exit(0)
    _wait_for(flag)


def kill_keeper(flag: str) -> None:
    leave_hidden_daemon(flag)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def stop_keeper(flag: str) -> None:
    leave_hidden_daemon(flag)
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(600)


def kill_zygote(flag: str) -> None:
    leave_hidden_daemon(flag)
    keeper = Path(f"/proc/{os.getppid()}/stat").read_text()
    os.kill(int(keeper.rpartition(")")[2].split()[1]), signal.SIGKILL)
    time.sleep(600)


def print_a_gigabyte(flag: str) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(1024):
        os.write(1, line * 1024)


def print_on_both(flag: str) -> None:
    """150 kB on each stream."""
    for stream in (1, 2):
        os.write(stream, (b"x" * 999 + b"\n") * 150)


def print_half_a_line(flag: str) -> None:
    print("batch 17…", end="", flush=True)
    Path(flag).write_text("printed")
    time.sleep(600)


def print_huge_line(flag: str) -> None:
    print("y" * 50_000)


def print_in_turn(flag: str) -> None:
    for number in range(6):
        print(f"turn {number}", file=sys.stdout if number % 2 else sys.stderr, flush=True)
        time.sleep(0.5)


def fill_folder(flag: str) -> None:
    for number in range(10_000):
        Path(f"part{number}").write_bytes(os.urandom(MB))
        time.sleep(0.005)


def fill_elsewhere(flag: str) -> None:
    with Path(flag).open("wb") as file:
        while True:
            file.write(b"x" * MB)


def fill_disk(flag: str) -> None:
    """Write until nothing more goes in; then stay, or end as a program does that cannot go on."""
    with contextlib.suppress(OSError):
        for number in range(10_000):
            Path(f"part{number}").write_bytes(os.urandom(MB))
    while not flag:
        time.sleep(60)
    sys.exit(1)


def claim_link(flag: str) -> None:
    Path("link").symlink_to("/etc/hostname")
    _report('{"type": "artifact", "path": "link", "name": "stolen"}')


def claim_link_alone(flag: str) -> None:
    """Without a model, with which an artifact would be kept."""
    claim_link(flag)
    os._exit(0)


def claim_climbing_path(flag: str) -> None:
    _report('{"type": "artifact", "path": "../../../../../../etc/hostname", "name": "stolen"}')


def claim_endless_name(flag: str) -> None:
    _report(f'{{"type": "artifact", "path": "{"x" * 300}", "name": "endless"}}')


def claim_loop_of_links(flag: str) -> None:
    Path("loop").symlink_to("loop")
    _report('{"type": "artifact", "path": "loop", "name": "loop"}')


def hide_reports(flag: str) -> None:
    """Put a pipe where the events are read from: who opens it waits for ever."""
    events = Path(os.environ["MCP_HUB_EVENTS"])
    events.unlink(missing_ok=True)
    os.mkfifo(events)
    sys.exit(4)


def remove_reports(flag: str) -> None:
    _report_until_read()
    Path(os.environ["MCP_HUB_EVENTS"]).unlink()
    time.sleep(600)


def write_reports_anew(flag: str) -> None:
    """Open the file as one does that is one's own."""
    _report_until_read()
    Path(os.environ["MCP_HUB_EVENTS"]).write_text('{"type": "log", "text": "b"}\n')
    time.sleep(600)


def _report_until_read() -> None:
    """Report, and wait until the worker has certainly read it: it takes the checkpoint away."""
    checkpoint = Path("state").absolute()
    checkpoint.write_text("state")
    _report('{"type": "metric", "key": "score", "value": 1, "step": 1}')
    _report('{"type": "checkpoint", "path": "state", "step": 1}')
    while checkpoint.exists():
        time.sleep(0.02)


def hold_memory_in_children(flag: str) -> None:
    """300 MB, of which no process holds more than 60."""
    for _ in range(5):
        if os.fork() == 0:
            hoard = bytearray(os.urandom(MB) * 60)
            time.sleep(600)
            del hoard
    time.sleep(600)


def share_memory_with_children(flag: str) -> None:
    """150 MB that six processes share: each looks as if it held them."""
    hoard = os.urandom(MB) * 150
    children = []
    for _ in range(5):
        if (pid := os.fork()) == 0:
            time.sleep(1.5)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert hoard


def raise_memory_error(flag: str) -> None:
    raise MemoryError


def import_missing(flag: str) -> None:
    import cv2_of_nobody  # noqa: F401


def import_missing_in_script(flag: str) -> None:
    program = "import torch_of_nobody.nn"
    sys.exit(subprocess.run([sys.executable, "-c", program]).returncode)


def name_bad_column(flag: str) -> None:
    import polars

    polars.DataFrame({"x": [1], "y": ["a"]}).select("Yy")


def find_no_key(flag: str) -> None:
    {"learning_rate": 1}["epochs_of_training"]


def report_nan(flag: str) -> None:
    _report('{"type": "metric", "key": "loss", "value": 0.5, "step": 6}')
    _report('{"type": "metric", "key": "loss", "value": NaN, "step": 7}')
    _report('{"type": "metric", "key": "loss", "value": 0.25, "step": 8}')
    time.sleep(600)


def report_rubbish(flag: str) -> None:
    _report('{"type": "metric", "key": "loss", "value": 0.5}\n\n\n{"type": "log", "text": ""}')
    _report('{"type": "metric", "key":')
    _report('{"type": "metric", "key": "loss", "value": 0.25}')
    time.sleep(600)


def report_half_a_line(flag: str) -> None:
    _report('{"type": "metric", "key": "lo', end="")
    os._exit(0)


def be_killed_in_mid_report(flag: str) -> None:
    _report('{"type": "metric", "key": "lo', end="")
    os.kill(os.getpid(), signal.SIGKILL)


def leave_last_line_open(flag: str) -> None:
    _report('{"type": "metric", "key": "loss", "value": 0.25}', end="")
    os._exit(0)


def report_many_metrics(flag: str) -> None:
    _report("\n".join(f'{{"type":"metric","key":"m{n}","value":{n},"step":0}}' for n in range(999)))


def report_too_many_names(flag: str) -> None:
    _report("\n".join(f'{{"type": "tag", "key": "{n}", "value": ""}}' for n in range(1001)))
    time.sleep(600)


def give_nan_to_an_estimator(flag: str) -> None:
    import numpy
    from sklearn.linear_model import LinearRegression

    LinearRegression().fit(numpy.array([[numpy.nan], [1.0]]), [0, 1])


def progress_and_hang(flag: str) -> None:
    for done in range(4):
        _report(f'{{"type": "progress", "done": {done}, "total": 100}}')
    time.sleep(600)


def terminate_itself(flag: str) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)


def kill_itself(flag: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def tell_status_of_script(flag: str) -> None:
    program = "import sys; print('no such corpus', file=sys.stderr); sys.exit(7)"
    sys.exit(subprocess.run([sys.executable, "-c", program]).returncode)


def show_limits(flag: str) -> None:
    print(
        f"cores={len(os.sched_getaffinity(0))} omp={os.environ['OMP_NUM_THREADS']} "
        f"gpus={os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}"
    )


def hold_gpus(flag: str) -> None:
    """Fail if somebody else holds one of the attempt's GPUs; `flag` is a folder of who does."""
    held = [Path(flag, gpu) for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu]
    assert held
    for path in held:
        path.touch(exist_ok=False)
    time.sleep(0.3)
    for path in held:
        path.unlink()


def _report(line: str, end: str = "\n") -> None:
    with Path(os.environ["MCP_HUB_EVENTS"]).open("a") as events:
        events.write(line + end)


def _wait_for(flag: str) -> None:
    while not Path(flag).exists() or not Path(flag).read_text():
        time.sleep(0.02)


TROUBLES: dict[str, Callable[[str], None]] = {
    action.__name__: action
    for action in (
        leave_hidden_daemon, leave_daemons_and_hang, fork_without_end, kill_keeper, stop_keeper,
        kill_zygote, print_a_gigabyte, print_huge_line, print_in_turn, fill_folder, fill_elsewhere,
        claim_link, claim_link_alone, claim_climbing_path, claim_endless_name,
        claim_loop_of_links, print_on_both, print_half_a_line, report_many_metrics,
        hide_reports, remove_reports,
        write_reports_anew, hold_memory_in_children, fill_disk,
        share_memory_with_children, raise_memory_error, import_missing, import_missing_in_script,
        name_bad_column, find_no_key, report_nan, report_rubbish,
        report_half_a_line, be_killed_in_mid_report, leave_last_line_open, report_too_many_names,
        give_nan_to_an_estimator,
        progress_and_hang, terminate_itself, kill_itself, tell_status_of_script, show_limits,
        hold_gpus,
    )
}  # fmt: skip
