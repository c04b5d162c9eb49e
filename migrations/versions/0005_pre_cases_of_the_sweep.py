"""What a sweep's cases are about, and the indexes by which a sweep finds.

Revision ID: 0005_pre
Revises: 0004_pre
"""

import sqlalchemy as sa
from alembic import op

revision = "0005_pre"
down_revision = "0004_pre"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand; the indexes beside live traffic."""
    op.add_column("breaks", sa.Column("subject", sa.Text(), nullable=True), if_not_exists=True)
    with op.get_context().autocommit_block():
        op.create_index(
            "uq_breaks_subject",
            "breaks",
            ["kind", "merchant_account", "subject"],
            unique=True,
            postgresql_where=sa.text("subject IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_commands_refunds",
            "commands",
            ["timestamp"],
            unique=False,
            postgresql_where=sa.text("operation = 'refund'"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_inbox_work_dead",
            "inbox_work",
            ["due"],
            unique=False,
            postgresql_where=sa.text("state = 'dead'"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_webhook_inbox_swept",
            "webhook_inbox",
            ["event_code", "received_at"],
            unique=False,
            postgresql_where=sa.text(
                "event_code IN ('REPORT_AVAILABLE', 'REFUND_FAILED', 'REFUNDED_REVERSED')"
            ),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
