"""The ledger: the one place where usage counts. The only room with SQLAlchemy."""

from sqlalchemy import Connection

from pipeline.ledger.engine import LedgerDenied, LedgerUnavailable
from pipeline.ledger.ledger import Ledger

__all__ = ["Connection", "Ledger", "LedgerDenied", "LedgerUnavailable"]
