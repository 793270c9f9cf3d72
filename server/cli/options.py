"""The flags that several commands share, and the settings that they make together."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mcp_hub.server.settings import Settings, load_settings

new_app = partial(
    typer.Typer, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
"""A Typer application as all of the hub's are: plain text, and no rich until it is printed."""

Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Configuration file, TOML or JSON.", show_default=False),
]
Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Take the file's table [profiles.NAME] too.", show_default=False
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the hub keeps its state.", show_default=False),
]
Root = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        help="A folder that files may be read from; may be given again.",
        show_default=False,
    ),
]
Toolsets = Annotated[
    str | None,
    typer.Option(metavar="A,B,…", help="Expose only these toolsets.", show_default=False),
]
ReadOnly = Annotated[
    bool | None,
    typer.Option("--read-only", help="Expose only tools that change nothing.", show_default=False),
]
LogLevel = Annotated[
    str | None,
    typer.Option(metavar="LEVEL", help="debug, info, warning or error.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def settings_for(ctx: typer.Context, **flags: Any) -> Settings:
    """The settings in force: a command's own flags before those given ahead of it.

    Sets up the log, on standard error: the hub's own at the level that they say, what it stands
    on from warnings upwards.
    """
    given = dict(ctx.find_root().obj)
    given.update({name: value for name, value in flags.items() if value is not None})
    config = given.pop("config", None)
    settings = load_settings(config, **given)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(
        stream=sys.stderr,
        level=max(level, logging.WARNING),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("mcp_hub").setLevel(level)
    return settings
