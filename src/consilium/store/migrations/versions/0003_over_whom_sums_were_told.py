"""Over whom sums were told, and at which models; of rounds of before nothing is known."""

from alembic import op

from consilium.store.schema import told

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table; where all tables are made anew, it is there."""
    told.create(op.get_bind(), checkfirst=True)
