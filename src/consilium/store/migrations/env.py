"""Alembic's entry: migrate over the connection that the coordinator gives."""

from alembic import context

from consilium.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
