"""Figures that hospitals tell of themselves alone."""

from alembic import op

from consilium.store.schema import declarations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table; where all tables are made anew, it is there."""
    declarations.create(op.get_bind(), checkfirst=True)
