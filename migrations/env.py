"""Alembic's entry: runs the revisions on the connection that the database adapter hands over."""

from alembic import context
from sqlalchemy import Connection

connection: Connection = context.config.attributes["connection"]
# The adapter holds the transaction and the lock; the revisions must not commit under it.
context.configure(connection=connection, transactional_ddl=False)
context.run_migrations()
