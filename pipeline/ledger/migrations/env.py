"""Alembic's entry: it runs on the connection that pipeline/ledger/schema.py has opened, in its transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,  # of SQLite too: our engine begins the transaction, so a failed migration leaves nothing
)
context.run_migrations()
