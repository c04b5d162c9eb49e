"""Redeliveries by age, for retention.

Revision ID: 0003_pre
Revises: 0002_pre
"""

from alembic import op

revision = "0003_pre"
down_revision = "0002_pre"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand, beside live traffic: nothing trimmed this table before."""
    with op.get_context().autocommit_block():
        op.create_index(
            op.f("ix_webhook_redeliveries_received_at"),
            "webhook_redeliveries",
            ["received_at"],
            unique=False,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
