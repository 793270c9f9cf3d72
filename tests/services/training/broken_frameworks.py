"""Frameworks of which one part is broken, to be provided in the place of `second_probe`."""

import sys
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
from probe_framework import ProbeConfig, SecondProbe

from mcp_hub.services.training.frameworks import registry
from mcp_hub.services.training.frameworks.base import Framework, FrameworkConfig, Place

NAME = SecondProbe.name


class RaisesInCheck(SecondProbe):
    def check(self, config: FrameworkConfig, type: str) -> None:
        raise ValueError("it has a fault")


class ExitsInCheck(SecondProbe):
    def check(self, config: FrameworkConfig, type: str) -> None:
        sys.exit(3)


class ChecksTheConfigAlone(SecondProbe):
    def check(self, config: FrameworkConfig) -> None:
        pass


class RaisesInAt(SecondProbe):
    def at(self, place: Place) -> Framework:
        raise ZeroDivisionError


class _Config(ProbeConfig):
    def model_post_init(self, context: object) -> None:
        raise KeyError(self.steps)


class RaisesInConfig(SecondProbe):
    Config: ClassVar[type[FrameworkConfig]] = _Config


def provide(monkeypatch: pytest.MonkeyPatch, class_name: str) -> None:
    """Have the class of this module be what provides `second_probe`."""
    entry = EntryPoint(NAME, f"{__name__}:{class_name}", registry.GROUP)
    monkeypatch.setitem(registry._entry_points(), NAME, entry)
