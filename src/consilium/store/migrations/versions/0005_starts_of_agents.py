"""Starts of hospitals' agents: two that are heard in turn run at once."""

from alembic import op

from consilium.store.schema import agents

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table; where all tables are made anew, it is there."""
    agents.create(op.get_bind(), checkfirst=True)
