"""Temporary folders, in which data is put together before it is stored."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from anyio import CancelScope, to_thread

from mcp_hub.adapters.errors import Unavailable


@asynccontextmanager
async def temporary_folder() -> AsyncIterator[Path]:
    """A folder that is gone afterwards. Raises Unavailable where none can be made."""
    try:
        folder = await to_thread.run_sync(partial(tempfile.mkdtemp, prefix="mcp-hub-"))
    except OSError as error:
        raise Unavailable(
            f"No temporary folder can be made: {error.strerror or error}.",
            "Check the disk's free space, or set TMPDIR.",
        ) from error
    try:
        yield Path(folder)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))
