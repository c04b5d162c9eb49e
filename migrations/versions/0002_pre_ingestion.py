"""Ingestion in depth: both schemes, what orphans await, uses of keys, diagnosed refusals.

Revision ID: 0002_pre
Revises: 0001_pre
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_pre"
down_revision = "0001_pre"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand."""
    op.add_column("webhook_redeliveries", sa.Column("body", sa.LargeBinary(), nullable=True))
    op.add_column(
        "inbox_work", sa.Column("is_again", sa.Boolean(), server_default="false", nullable=False)
    )
    op.add_column("inbox_work", sa.Column("awaits_account", sa.Text(), nullable=True))
    op.add_column("inbox_work", sa.Column("awaits_merchant_reference", sa.Text(), nullable=True))
    op.add_column("inbox_work", sa.Column("awaits_psp_reference", sa.Text(), nullable=True))
    op.create_index(
        "ix_inbox_work_awaits_merchant_reference",
        "inbox_work",
        ["awaits_merchant_reference", "awaits_account"],
        unique=False,
        postgresql_where=sa.text("awaits_merchant_reference IS NOT NULL"),
    )
    op.create_index(
        "ix_inbox_work_awaits_psp_reference",
        "inbox_work",
        ["awaits_psp_reference", "awaits_account"],
        unique=False,
        postgresql_where=sa.text("awaits_psp_reference IS NOT NULL"),
    )
    op.create_table(
        "hmac_key_uses",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["hmac_keys.key_id"], name=op.f("fk_hmac_key_uses_key_id_hmac_keys")
        ),
        sa.PrimaryKeyConstraint("key_id", "day", name=op.f("pk_hmac_key_uses")),
    )
    op.add_column(
        "webhook_refusals", sa.Column("scheme", sa.Text(), server_default="item", nullable=False)
    )
    op.add_column("webhook_refusals", sa.Column("claimed_guid", sa.Uuid(), nullable=True))
    op.add_column("webhook_refusals", sa.Column("claimed_event", sa.Text(), nullable=True))
    op.add_column(
        "webhook_refusals",
        sa.Column("diagnosis", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    )
    op.create_index(
        "ix_webhook_refusals_claimed_guid",
        "webhook_refusals",
        ["claimed_guid"],
        unique=False,
        postgresql_where=sa.text("claimed_guid IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_webhook_refusals_received_at"), "webhook_refusals", ["received_at"], unique=False
    )
    # Last, since this lock stops every webhook until the commit.
    # A webhook is read from its body: nothing is stored twice. Older releases still write the item.
    op.alter_column("webhook_inbox", "item", nullable=True)
    op.add_column(
        "webhook_inbox", sa.Column("scheme", sa.Text(), server_default="item", nullable=False)
    )
