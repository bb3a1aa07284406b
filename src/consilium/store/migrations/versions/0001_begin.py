"""The first tables."""

from alembic import op

from consilium.store.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables of release 0.1."""
    metadata.create_all(op.get_bind())
    if op.get_bind().dialect.name == "postgresql":  # weights do not compress; to try costs more than to write them
        op.execute("ALTER TABLE blobs ALTER COLUMN data SET STORAGE EXTERNAL")
