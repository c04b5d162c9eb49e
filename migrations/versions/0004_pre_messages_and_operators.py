"""Commands and responses, reviews, operators' actions, the fraud rules' deny list.

Revision ID: 0004_pre
Revises: 0003_pre
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004_pre"
down_revision = "0003_pre"
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_actions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes()
"""


def upgrade() -> None:
    """Expand."""
    op.add_column("api_keys", sa.Column("service_id", sa.Text(), nullable=True))
    op.add_column("saga_steps", sa.Column("request", sa.Text(), nullable=True))
    op.add_column("saga_steps", sa.Column("due", sa.DateTime(timezone=True), nullable=True))
    _create_commands()
    _create_responses()
    _create_reviews()
    _create_operator_actions()
    op.create_table(
        "fraud_denials",
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_account"],
            ["merchant_accounts.merchant_account"],
            name=op.f("fk_fraud_denials_merchant_account_merchant_accounts"),
        ),
        sa.PrimaryKeyConstraint("merchant_account", "kind", "value", name=op.f("pk_fraud_denials")),
    )


def _create_commands() -> None:
    op.create_table(
        "commands",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("saga_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("round", sa.SmallInteger(), nullable=False),
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("offered_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("taken_by", sa.Text(), nullable=True),
        sa.Column("taken_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["saga_id"], ["saga_instances.saga_id"], name=op.f("fk_commands_saga_id_saga_instances")
        ),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_commands")),
        sa.UniqueConstraint(
            "saga_id",
            "step",
            "direction",
            "round",
            name=op.f("uq_commands_saga_id_step_direction_round"),
        ),
    )
    op.create_index(
        "ix_commands_offered",
        "commands",
        ["service_id", "merchant_account", "timestamp"],
        unique=False,
        postgresql_where=sa.text("offered_until IS NOT NULL"),
    )


def _create_responses() -> None:
    op.create_table(
        "responses",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("command_id", sa.Uuid(), nullable=False),
        sa.Column("saga_id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["command_id"], ["commands.message_id"], name=op.f("fk_responses_command_id_commands")
        ),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_responses")),
    )
    op.create_index(op.f("ix_responses_command_id"), "responses", ["command_id"], unique=False)
    op.create_index(
        "ix_responses_unapplied",
        "responses",
        ["saga_id"],
        unique=False,
        postgresql_where=sa.text("applied_at IS NULL"),
    )


def _create_reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("review_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("merchant_account", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("next_step", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.payment_id"], name=op.f("fk_reviews_payment_id_payments")
        ),
        sa.PrimaryKeyConstraint("review_id", name=op.f("pk_reviews")),
    )
    op.create_index(
        op.f("ix_reviews_payment_id_opened_at"),
        "reviews",
        ["payment_id", "opened_at"],
        unique=False,
    )
    op.create_index(
        "uq_reviews_open",
        "reviews",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )


def _create_operator_actions() -> None:
    op.create_table(
        "operator_actions",
        sa.Column("action_id", sa.Uuid(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("btrim(reason) <> ''", name=op.f("ck_operator_actions_reason")),
        sa.PrimaryKeyConstraint("action_id", name=op.f("pk_operator_actions")),
    )
    op.create_index(
        op.f("ix_operator_actions_subject"), "operator_actions", ["subject"], unique=False
    )
    op.create_index(op.f("ix_operator_actions_at"), "operator_actions", ["at"], unique=False)
    op.execute(APPEND_ONLY)
