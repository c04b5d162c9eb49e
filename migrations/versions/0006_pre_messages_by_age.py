"""Commands by age, for retention.

Revision ID: 0006_pre
Revises: 0005_pre
"""

from alembic import op

revision = "0006_pre"
down_revision = "0005_pre"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand, beside live traffic."""
    with op.get_context().autocommit_block():
        op.create_index(
            op.f("ix_commands_timestamp"),
            "commands",
            ["timestamp"],
            unique=False,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
