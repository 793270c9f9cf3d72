"""What moving a hub reports."""

from pydantic import Field

from mcp_hub.services.views import View


class TableComparison(View):
    """A table at both ends. The hashes are over every row and do not depend on their order."""

    table: str
    source_rows: int
    target_rows: int
    source_hash: str
    target_hash: str

    @property
    def equal(self) -> bool:
        return (self.source_rows, self.source_hash) == (self.target_rows, self.target_hash)


class BlobComparison(View):
    """The blobs that the source's rows name, each read whole at the target and hashed."""

    referenced: int
    verified: int
    bytes: int
    missing: list[str] = Field(description="Addresses that the target lacks")


class Moved(View):
    """What one run of a copy did, and how the two ends compare after it."""

    rows: int = Field(description="Rows written by this run")
    rows_s: float = Field(description="Time that took, in seconds")
    blobs: int = Field(description="Blobs written by this run")
    blob_bytes: int
    blobs_s: float = Field(description="Time that took, in seconds")
    tables: list[TableComparison]
    blob_comparison: BlobComparison
    left_out: dict[str, str] = Field(description="Tables that are not copied, and why")
    equal: bool
