"""Over whom a refused sum would have been: another set of hospitals is another question."""

import sqlalchemy as sa
from alembic import op

from consilium.store.schema import metadata

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column to a database of before, and what tables it lacks; what is made anew has them."""
    metadata.create_all(op.get_bind())
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("refusals")}
    if "among" not in columns:
        op.add_column("refusals", sa.Column("among", sa.Text))
