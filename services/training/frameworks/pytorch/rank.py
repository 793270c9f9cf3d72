"""One of the processes that torchrun starts: `python -m ….pytorch.rank FOLDER`."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.training.frameworks.pytorch import PytorchConfig
from mcp_hub.services.training.frameworks.pytorch.group import is_leader
from mcp_hub.services.training.frameworks.pytorch.training import train
from mcp_hub.services.training.frameworks.tasks import read_task, training_task
from mcp_hub.services.training.run import Run, run

_LOOK_EVERY_S = 0.5


class _Silent(Run):
    """The run of a process for which another reports."""

    def _write(self, event: dict[str, Any]) -> None:
        pass


def main() -> None:
    """Train, as one of the group; a fault of the request is reported, not tried again.

    Anything else ends the process with a traceback, and torchrun starts the group again.
    """
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    folder = Path(sys.argv[1])
    task = training_task(read_task(folder), folder)
    config = PytorchConfig.model_validate(dict(task.config))
    try:
        train(task, run if is_leader(config) else _Silent())
    except HubError as error:
        # Every process meets it, and so those of every machine; one of each tells.
        if os.environ["LOCAL_RANK"] == "0":
            run.error(error.code, error.message, error.hint)


def _die_with(parent: int) -> None:
    """End with the process that started this one: torchrun puts it in a session of its own."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


if __name__ == "__main__":
    main()
