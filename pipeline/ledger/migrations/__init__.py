"""The database schema's history, one file a revision; see pipeline/ledger/schema.py for how it is applied."""
