"""What a token says, as a value, and what can be wrong with one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

KINDS: Final = ("tenant", "proxy", "operator")
ROLES: Final = ("viewer", "finance", "oncall", "admin")
REASONS: Final = ("token_invalid", "token_expired", "token_revoked")


class TokenRefused(Exception):
    """The token does not count. reason: one of REASONS; detail: what exactly, without any part of the token."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        assert reason in REASONS
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Claims:
    """A token that was checked. Instants in UTC microseconds; limits: upper bounds of one call's estimate by meter."""

    kind: str
    subject: str
    jti: str
    issued_us: int
    expires_us: int
    kid: str = ""
    role: str = ""
    models: tuple[str, ...] = ("*",)
    limits: Mapping[str, Decimal] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def tenant(self) -> str:
        """The tenant of a tenant's token; empty for a proxy or an operator."""
        return self.subject if self.kind == "tenant" else ""

    @property
    def who(self) -> str:
        """As the audit log names the caller: "operator:ada"."""
        return f"{self.kind}:{self.subject}"
