"""Accounts, inbox, payments with their history, sagas, idempotency keys, breaks.

Revision ID: 0001_pre
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001_pre"
down_revision = None
branch_labels = None
depends_on = None

#: History is append-only: not even this service can change or remove a line of it.
REFUSE_CHANGES = """
CREATE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$
"""
APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payment_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes()
"""


def upgrade() -> None:
    """Expand."""
    op.create_table(
        "idempotency_keys",
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("answer_status", sa.SmallInteger(), nullable=True),
        sa.Column("answer_body", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("merchant_account", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(
        op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False
    )
    op.create_table(
        "inbox_work",
        sa.Column("guid", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), server_default="new", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('new', 'parked', 'dead')", name=op.f("ck_inbox_work_state")),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_inbox_work")),
    )
    op.create_index(
        "ix_inbox_work_claimable",
        "inbox_work",
        ["due"],
        unique=False,
        postgresql_where=sa.text("state <> 'dead'"),
    )
    op.create_table(
        "merchant_accounts",
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("basic_user", sa.Text(), nullable=True),
        sa.Column("basic_password_encrypted", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("merchant_account", name=op.f("pk_merchant_accounts")),
    )
    op.create_table(
        "payments",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("merchant_reference", sa.Text(), nullable=False),
        sa.Column("psp_reference", sa.Text(), nullable=True),
        sa.Column("is_ours", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("capture", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("funds_status", sa.Text(), nullable=False),
        sa.Column("authorised", sa.BigInteger(), nullable=False),
        sa.Column("captured", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("charged_back", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("newest_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("pk_payments")),
    )
    op.create_index(
        "ix_payments_newest",
        "payments",
        ["merchant_account", "created_at", "payment_id"],
        unique=False,
    )
    op.create_index(
        "ix_payments_psp_reference", "payments", ["merchant_account", "psp_reference"], unique=False
    )
    op.create_index(
        "uq_payments_external",
        "payments",
        ["merchant_account", "psp_reference"],
        unique=True,
        postgresql_where=sa.text("NOT is_ours"),
    )
    op.create_index(
        "uq_payments_merchant_reference",
        "payments",
        ["merchant_account", "merchant_reference"],
        unique=True,
        postgresql_where=sa.text("is_ours"),
    )
    op.create_table(
        "webhook_inbox",
        sa.Column("guid", sa.Uuid(), nullable=False),
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("event_code", sa.Text(), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("psp_reference", sa.Text(), nullable=False),
        sa.Column("original_reference", sa.Text(), nullable=False),
        sa.Column("merchant_reference", sa.Text(), nullable=False),
        sa.Column("item", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("is_live", sa.Boolean(), nullable=False),
        sa.Column("hmac_key_id", sa.Uuid(), nullable=True),
        sa.Column("event_date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_webhook_inbox")),
    )
    op.create_index(
        op.f("ix_webhook_inbox_merchant_account_psp_reference"),
        "webhook_inbox",
        ["merchant_account", "psp_reference"],
        unique=False,
    )
    op.create_index(
        op.f("ix_webhook_inbox_received_at"), "webhook_inbox", ["received_at"], unique=False
    )
    op.create_table(
        "webhook_redeliveries",
        sa.Column("redelivery_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("guid", sa.Uuid(), nullable=False),
        sa.Column("event_date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("redelivery_id", name=op.f("pk_webhook_redeliveries")),
    )
    op.create_index(
        op.f("ix_webhook_redeliveries_guid"), "webhook_redeliveries", ["guid"], unique=False
    )
    op.create_table(
        "webhook_refusals",
        sa.Column("refusal_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("claimed_account", sa.Text(), nullable=True),
        sa.Column("remote_address", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("refusal_id", name=op.f("pk_webhook_refusals")),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["merchant_account"],
            ["merchant_accounts.merchant_account"],
            name=op.f("fk_api_keys_merchant_account_merchant_accounts"),
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_table(
        "breaks",
        sa.Column("break_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.payment_id"], name=op.f("fk_breaks_payment_id_payments")
        ),
        sa.PrimaryKeyConstraint("break_id", name=op.f("pk_breaks")),
    )
    op.create_index(
        "uq_breaks_open",
        "breaks",
        ["kind", "payment_id"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "hmac_keys",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("secret_encrypted", sa.LargeBinary(), nullable=False),
        sa.Column("check_value", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["merchant_account"],
            ["merchant_accounts.merchant_account"],
            name=op.f("fk_hmac_keys_merchant_account_merchant_accounts"),
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_hmac_keys")),
        sa.UniqueConstraint(
            "merchant_account",
            "check_value",
            name=op.f("uq_hmac_keys_merchant_account_check_value"),
        ),
    )
    op.create_index(
        op.f("ix_hmac_keys_merchant_account"), "hmac_keys", ["merchant_account"], unique=False
    )
    op.create_table(
        "payment_events",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.payment_id"],
            name=op.f("fk_payment_events_payment_id_payments"),
        ),
        sa.PrimaryKeyConstraint("payment_id", "seq", name=op.f("pk_payment_events")),
    )
    op.create_table(
        "saga_instances",
        sa.Column("saga_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("saga_type", sa.Text(), nullable=False),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("current_step", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("due", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(status = 'resting') = (due IS NULL)",
            name=op.f("ck_saga_instances_due_unless_resting"),
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.payment_id"],
            name=op.f("fk_saga_instances_payment_id_payments"),
        ),
        sa.PrimaryKeyConstraint("saga_id", name=op.f("pk_saga_instances")),
        sa.UniqueConstraint("payment_id", name=op.f("uq_saga_instances_payment_id")),
    )
    op.create_index(
        "ix_saga_instances_due",
        "saga_instances",
        ["due"],
        unique=False,
        postgresql_where=sa.text("due IS NOT NULL"),
    )
    op.create_table(
        "saga_steps",
        sa.Column("saga_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("round", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("response", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["saga_id"],
            ["saga_instances.saga_id"],
            name=op.f("fk_saga_steps_saga_id_saga_instances"),
        ),
        sa.PrimaryKeyConstraint("saga_id", "step", "direction", name=op.f("pk_saga_steps")),
    )
    op.execute(REFUSE_CHANGES)
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    """There is nothing before this to go back to."""
    raise NotImplementedError("the first migration has no way back")
