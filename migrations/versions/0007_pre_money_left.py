"""Payments that were given up with money left, for the sweep.

Revision ID: 0007_pre
Revises: 0006_pre
"""

import sqlalchemy as sa
from alembic import op

revision = "0007_pre"
down_revision = "0006_pre"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand, beside live traffic."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_payments_money_left",
            "payments",
            ["updated_at", "payment_id"],
            unique=False,
            postgresql_where=sa.text(
                "state IN ('declined', 'compensated') AND (funds_status = 'authorised'"
                " OR authorised > captured + cancelled OR captured > refunded + charged_back"
                " OR funds_status IN ('refunded', 'charged_back') AND jsonb_path_exists(facts,"
                " '$[*] ? (@.payment_reference != $own || @.reference != $own"
                ' && (@.kind == "authorised" || @.kind == "expired"))\','
                " jsonb_object(ARRAY['own', psp_reference])))"
            ),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
