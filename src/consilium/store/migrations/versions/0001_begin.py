"""The first tables."""

from alembic import op

from consilium.store.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables of release 0.1."""
    metadata.create_all(op.get_bind())
