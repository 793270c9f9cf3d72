"""What blob stores on servers have in common."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from anyio import CancelScope, to_thread

from mcp_hub.adapters.blobs.local import Copy


class RemoteBlobStore(ABC):
    """Reads whole blobs by their stream."""

    @abstractmethod
    def stream(self, sha256: str) -> AsyncGenerator[bytes, None]:
        """As BlobStore says."""

    async def get(self, sha256: str) -> bytes:
        async with aclosing(self.stream(sha256)) as parts:
            return b"".join([part async for part in parts])

    async def fetch(self, sha256: str, path: Path) -> None:
        copy = await to_thread.run_sync(Copy, path)
        try:
            async with aclosing(self.stream(sha256)) as parts:
                async for part in parts:
                    await to_thread.run_sync(copy.write, part)
            await to_thread.run_sync(copy.commit)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(copy.discard)
