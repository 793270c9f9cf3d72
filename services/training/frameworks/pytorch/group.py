"""The processes that train one model together; mostly that is one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.frameworks.pytorch import PytorchConfig

_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Group:
    """This process among the `size` that train together.

    All have the same rows, take a share of each batch, and average what they learn from it. One,
    of rank `leader`, reports and keeps the checkpoints.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    leader: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process reports for all."""
        return self.rank == self.leader

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients are averaged over the group."""
        return network if self.size == 1 else DistributedDataParallel(network)

    def total(self, value: Tensor) -> Tensor:
        """The sum of what each process gives."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def shared(self, value: float) -> float:
        """What the leader gives."""
        if self.size == 1:
            return value
        held = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(held, self.leader)
        return float(held.item())

    def shared_bytes(self, data: bytes) -> bytes:
        """What the leader gives."""
        if self.size == 1:
            return data
        size = int(self.shared(float(len(data))))
        if not size:
            return b""
        held = torch.frombuffer(bytearray(data if self.leads else bytes(size)), dtype=torch.uint8)
        held = held.to(self.device)
        distributed.broadcast(held, self.leader)
        return held.cpu().numpy().tobytes()


def is_rank() -> bool:
    """Whether this process is one that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_leader(config: PytorchConfig) -> bool:
    """Whether this process is the first one of the first machine.

    torchrun's rank 0 may be on any machine; what reports and has the checkpoints is the job of
    the first.
    """
    return config.node_rank == 0 and os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def open_group(config: PytorchConfig) -> Iterator[Group]:
    """The group of this process, while it lasts.

    Raises:
        Unavailable: the config asks for a GPU and there is none.
    """
    device = _device(config)
    if not is_rank():
        yield Group(device)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        rank, size = distributed.get_rank(), distributed.get_world_size()
        leader = torch.tensor([rank if is_leader(config) else 0], device=device)
        distributed.all_reduce(leader)
        yield Group(device, rank, size, int(leader.item()))
    finally:
        distributed.destroy_process_group()


def _device(config: PytorchConfig) -> torch.device:
    """The processor to train on: each process of a machine has a GPU of its own, or none has."""
    if config.device == "cpu":
        return torch.device("cpu")
    needed, there = config.nproc_per_node, torch.cuda.device_count()
    if there >= needed:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device
    if config.device == "cuda":
        raise Unavailable(
            f"config.device is 'cuda' for {needed} processes, but torch finds {there} GPUs here.",
            "Use device='auto' or 'cpu', or a worker on a machine with GPUs.",
        )
    return torch.device("cpu")
