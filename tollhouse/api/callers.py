"""Who is calling: the bearer token's kind and role decide what a handler may do."""

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from tollhouse.api.problems import Problem, of_token
from tollhouse.api.state import Api, api_of
from tollhouse.tokens import Claims, TokenRefused

# Only for the OpenAPI description; the checking is done below.
BEARER: Final = HTTPBearer(auto_error=False, bearerFormat="JWT", scheme_name="token")
HEADER_MAX: Final = 9000


def bearer(request: Request) -> str:
    """The token of the Authorization header; a 401 problem without one."""
    values = request.headers.getlist("authorization")
    if not values:
        raise Problem(
            401,
            "token_invalid",
            "no token: send Authorization: Bearer TOKEN (see `tollhouse token issue`)",
            headers={"WWW-Authenticate": "Bearer"},
            reason="token_invalid",
        )
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or len(values[0]) > HEADER_MAX:
        raise of_token(TokenRefused("token_invalid", "send one header Authorization: Bearer TOKEN"))
    return token.strip()


def authenticate(request: Request, *kinds: str) -> Claims:
    """The caller, of one of the kinds; 401 for a token that does not count, 403 for one of another kind."""
    api = api_of(request)
    try:
        claims = api.checker.check(bearer(request), api.now_us())
    except TokenRefused as refused:
        raise of_token(refused) from None
    if claims.kind not in kinds:
        needed = " or ".join(kinds)
        raise Problem(403, "wrong_caller", f"this is a token of a {claims.kind}: here one of a {needed} is needed")
    if wait_s := _wait_s(api, claims):
        detail = "this token asks too often"
        raise Problem(429, "too_many_requests", detail, headers={"Retry-After": str(wait_s)}, retry_after_s=wait_s)
    return claims


def _wait_s(api: Api, claims: Claims) -> int:
    """0, or how long the caller must wait. A proxy is paced by its name, however many tokens it has, and by setting."""
    if claims.kind == "proxy":
        return api.proxy_pace.wait_s(claims.subject) if api.proxy_pace is not None else 0
    return api.pace.wait_s(claims.jti)


def require_role(claims: Claims, *roles: str) -> None:
    """403 unless the operator has one of the roles; an admin has all."""
    if claims.kind != "operator" or claims.role not in (*roles, "admin"):
        raise Problem(403, "role_needed", f"this needs an operator with the role {' or '.join((*roles, 'admin'))}")


def operator(*roles: str) -> Callable[..., Claims]:
    """A dependency: an operator with one of the roles; without roles, any operator."""

    def find(request: Request, _shown: Annotated[object, Depends(BEARER)]) -> Claims:
        claims = authenticate(request, "operator")
        if roles:
            require_role(claims, *roles)
        return claims

    return find


def _reader(request: Request, _shown: Annotated[object, Depends(BEARER)]) -> Claims:
    return authenticate(request, "operator", "tenant")


Reader = Annotated[Claims, Depends(_reader)]
"""An operator of any role, or a tenant; `own` then narrows a tenant to itself."""
Operator = Annotated[Claims, Depends(operator())]
Oncall = Annotated[Claims, Depends(operator("oncall"))]
Finance = Annotated[Claims, Depends(operator("finance"))]


def own(claims: Claims, tenant: str) -> None:
    """403 for a tenant that asks for another's things, whether they exist or not."""
    if claims.kind == "tenant" and claims.subject != tenant:
        raise Problem(403, "not_yours", "a tenant's token shows this tenant's own usage, quotas and invoices only")
