"""Several processes for one job: torchrun's agent, run inside the attempt's process."""

import hashlib
import json
import os
import socket
import struct
import sys

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.pytorch import PytorchConfig
from mcp_hub.services.training.run import Run

_RANK_MODULE = "mcp_hub.services.training.frameworks.pytorch.rank"
_JOIN_TIMEOUT_S = 300
_LOOPBACK = "127.0.0.1"
_SIOCGIFADDR = 0x8915


def launch(task: TrainingTask, config: PytorchConfig, run: Run) -> None:
    """Run the processes of this machine until they have trained.

    When one is lost, all are started again, up to `config.max_restarts` times, and go on from the
    newest checkpoint.

    Raises:
        Unavailable: too many were lost, or the other machines did not come.
    """
    host, port = (config.rendezvous or f"{_LOOPBACK}:0").rsplit(":", 1)
    hosted_at, address = _addresses(host, int(port), config)
    _listen_on(address)
    # A store of its own for each start of the group: in the agent's, those that are started again
    # would find the addresses of the processes that are gone.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if config.node_rank:
        run.log("The model is registered by the job of node_rank 0.")
    run.log(
        f"torchrun: {config.nproc_per_node} processes here at {address}, "
        f"machine {config.node_rank + 1} of {config.nnodes}."
    )
    launched = LaunchConfig(
        min_nodes=config.nnodes,
        max_nodes=config.nnodes,
        nproc_per_node=config.nproc_per_node,
        run_id=_run_id(task),
        rdzv_backend="c10d",
        rdzv_endpoint=f"{host}:{port}",
        rdzv_configs={
            "is_host": str(address == hosted_at), "timeout": _JOIN_TIMEOUT_S,
            "join_timeout": _JOIN_TIMEOUT_S,
        },
        max_restarts=config.max_restarts,
        local_addr=address,
        logs_specs=DefaultLogsSpecs(log_dir=str(task.folder / "torchrun")),
        shutdown_timeout=1,
    )  # fmt: skip
    try:
        elastic_launch(launched, sys.executable)("-m", _RANK_MODULE, str(task.folder))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise Unavailable(
            f"Process {rank} of the training ended with status {failure.exitcode}, after "
            f"{config.max_restarts} restarts.",
            "See training_logs. max_retries has the job go on from its newest checkpoint.",
        ) from error
    except (RendezvousError, TimeoutError) as error:
        raise Unavailable(
            f"Not all of the {config.nnodes} machines met at {config.rendezvous}: {error}",
            "Submit the same job once for each node_rank, to workers that reach that address.",
        ) from error


def _run_id(task: TrainingTask) -> str:
    """The same for the jobs that are to train together."""
    config = {key: value for key, value in task.config.items() if key != "node_rank"}
    request = [task.name, task.type, task.target, task.dataset, config]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]


def _addresses(host: str, port: int, config: PytorchConfig) -> tuple[str, str]:
    """The address of `host`, and the one by which this machine is reached from there.

    They are the same on the machine that hosts the meeting, whichever of the jobs it runs.
    """
    if config.nnodes == 1:
        return _LOOPBACK, _LOOPBACK
    try:
        hosted_at = socket.gethostbyname(host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Sends nothing: it asks which way there is.
            probe.connect((hosted_at, port))
            return hosted_at, str(probe.getsockname()[0])
    except OSError as error:
        raise Unavailable(
            f"config.rendezvous names {host}, which cannot be reached from here: {error.strerror}."
        ) from error


def _listen_on(address: str) -> None:
    """Have gloo and NCCL use the interface of that address, not that of the machine's name."""
    name = _interface_of(address)
    if name is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = name
        if address != _LOOPBACK:
            os.environ["NCCL_SOCKET_IFNAME"] = name


def _interface_of(address: str) -> str | None:
    """The network interface with that address, where the system tells."""
    if sys.platform != "linux":
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:
                # It has no address.
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
