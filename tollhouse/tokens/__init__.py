"""Tokens: who is calling. Signed JWTs of three kinds (tenant, proxy, operator), their keys, and what was revoked.

See README.md for what a token says and how it is judged.
"""

from tollhouse.tokens.claims import KINDS, ROLES, Claims, TokenRefused
from tollhouse.tokens.verify import PublicKey, verify

__all__ = ["KINDS", "ROLES", "Claims", "PublicKey", "TokenRefused", "verify"]
