"""When a pattern was seen last, so that those not seen for long can be removed."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "telemetry_patterns",
        sa.Column("last_time", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    # Of those that are there it is not known: they are kept as if they were seen now.
    op.execute(f"UPDATE telemetry_patterns SET last_time = {time.time_ns()}")
    op.create_index("ix_telemetry_patterns_last_time", "telemetry_patterns", ["last_time"])


def downgrade() -> None:
    op.drop_index("ix_telemetry_patterns_last_time", table_name="telemetry_patterns")
    op.drop_column("telemetry_patterns", "last_time")
