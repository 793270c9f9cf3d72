"""Alembic's entry: runs the revisions on the connection that the database adapter hands over."""

from alembic import context
from sqlalchemy import Connection

if context.is_offline_mode():
    context.configure(
        dialect_name=context.config.attributes["dialect"],
        literal_binds=True,
        transactional_ddl=False,
    )
else:
    connection: Connection = context.config.attributes["connection"]
    # The adapter holds the transaction and the lock; the revisions must not commit under it.
    context.configure(connection=connection, transactional_ddl=False)
context.run_migrations()
