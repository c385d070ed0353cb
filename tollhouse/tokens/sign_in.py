"""Operators' sign-in at an OpenID Connect issuer: authorization code with PKCE (RFC 7636), state and nonce.

The id token is believed once, for the one sign-in whose nonce it carries; from then on the session counts. What the
person may do is a role that the setting `sign_in_roles` gives to a value of a claim; without one there is no session.
"""

import hmac
import re
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, urlencode

from schemas.instants import SECOND_US
from schemas.usage_event import is_identifier
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.tokens.claims import ROLES, Claims, TokenRefused
from tollhouse.tokens.external import claim_at, issuer_payload, seconds_of
from tollhouse.tokens.issuer_http import IssuerUnavailable, json_object
from tollhouse.tokens.issuer_keys import IssuerKeys
from tollhouse.tokens.verify import Signed, judge

BACK: Final = "/sign-in/oidc/back"
"""Where the issuer sends people back to; registered there as `base_url` with this path."""
SECRET: Final = "TOLLHOUSE_SIGN_IN_CLIENT_SECRET"  # noqa: S105 - the name of the setting
CODE_MAX: Final = 2048
_CODE: Final = re.compile(rf"[\x20-\x7e]{{1,{CODE_MAX}}}", re.ASCII)
_VALUES_MAX: Final = 1000
"""Groups of one person that are looked at."""


@dataclass(frozen=True, slots=True)
class Way:
    """A sign-in that begins: address is where the browser goes; the rest is kept until it comes back."""

    address: str
    state: str
    nonce: str
    verifier: str


def role_map(text: str) -> dict[str, str]:
    """`VALUE=ROLE,VALUE=ROLE` as a mapping, in this order; UserError for anything else."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        value, _, role = (piece.strip() for piece in part.rpartition("="))
        if not value or role not in ROLES or value in found:
            raise UserError(f"setting sign_in_roles: write VALUE=ROLE,VALUE=ROLE, with roles {', '.join(ROLES)}")
        found[value] = role
    return found


class OperatorSignIn:
    """One issuer, by the settings sign_in_*. UserError where they are not whole."""

    def __init__(self, settings: Settings, keys: IssuerKeys | None = None) -> None:
        self.issuer, self._client = settings.sign_in_issuer, settings.sign_in_client_id
        self._roles = role_map(settings.sign_in_roles)
        for name, given in (
            ("sign_in_client_id", self._client),
            ("sign_in_roles", settings.sign_in_roles),
            ("base_url", settings.base_url),
        ):
            if not given:
                raise UserError(f"setting {name} is empty: the sign-in at {self.issuer} needs it")
        self._claim, self._name = settings.sign_in_role_claim, settings.sign_in_name_claim
        self._scope = " ".join(dict.fromkeys(["openid", *settings.sign_in_scope.split()]))
        self._secret = settings.secret(SECRET) if settings.has_secret(SECRET) else ""
        self.back = settings.base_url.rstrip("/") + BACK
        allow_local = bool(settings.oidc_allow_local)
        self.keys = keys or IssuerKeys(self.issuer, allow_local=allow_local, setting="sign_in_issuer")

    def begin(self) -> Way:
        """A new sign-in; IssuerUnavailable."""
        about = self._about()
        self._endpoint(about, "token_endpoint")  # without it nobody would come back with anything
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": self.back,
            "scope": self._scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = self._endpoint(about, "authorization_endpoint")
        return Way(f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", state, nonce, verifier)

    def answered_by(self, iss: str | None) -> bool:
        """Whether the answer is of this issuer, where it says whose it is (RFC 9207)."""
        needed = self._about().get("authorization_response_iss_parameter_supported") is True
        return iss == self.issuer if iss is not None else not needed

    def finish(self, code: str, verifier: str, nonce: str, now_us: int) -> Claims:
        """Who came back with this code: an operator. TokenRefused, IssuerUnavailable."""
        if not _CODE.fullmatch(code):
            raise _refused("the issuer sent no code")
        token = self._exchange(code, verifier)
        payload, kid = issuer_payload(self.keys, token, issuer=self.issuer, audience=self._client)
        others = payload["aud"] if isinstance(payload["aud"], list) else [payload["aud"]]
        if (len(others) > 1 or "azp" in payload) and payload.get("azp") != self._client:
            raise _refused("the id token was made for another client (azp)")
        given = payload.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise _refused("the id token is of another sign-in (nonce)")
        issued_s, ends_s = seconds_of(payload["iat"], "iat"), seconds_of(payload["exp"], "exp")
        claims = Claims(
            kind="operator",
            subject=self._subject(payload),
            jti=f"oidc:{sha256(token.encode()).hexdigest()[:32]}",
            issued_us=issued_s * SECOND_US,
            expires_us=ends_s * SECOND_US,
            kid=kid,
            role=self._role(payload),
        )
        return judge(Signed(claims, seconds_of(payload.get("nbf", 0), "nbf") * SECOND_US), now_us)

    def _about(self) -> Mapping[str, Any]:
        known = self.keys.current()
        if known is None:
            raise IssuerUnavailable(self.keys.why_away() or "it does not answer")
        return known.about

    def _endpoint(self, about: Mapping[str, Any], name: str) -> str:
        address = about.get(name)
        if not isinstance(address, str) or not self.keys.http.speaks(address) or "#" in address:
            raise IssuerUnavailable(f"its discovery document has no {name} at https://HOST")
        return address

    def _exchange(self, code: str, verifier: str) -> str:
        about = self._about()
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.back,
            "client_id": self._client,
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {"accept": "application/json"}
        methods = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._secret and isinstance(methods, list) and "client_secret_basic" in methods:
            pair = f"{quote(self._client, safe='')}:{quote(self._secret, safe='')}"  # RFC 6749, 2.3.1
            headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        elif self._secret:
            fields["client_secret"] = self._secret
        try:
            answer = json_object(self.keys.http.post(self._endpoint(about, "token_endpoint"), fields, headers))
        except IssuerUnavailable as error:
            if error.status == 400:  # RFC 6749, 5.2
                raise _refused("the issuer does not take the code: it was used, or its time is over") from None
            raise
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _refused("the issuer gave no id token")
        return token

    def _subject(self, payload: Mapping[str, Any]) -> str:
        name = claim_at(payload, self._name)
        if not isinstance(name, str) or not is_identifier(name):
            raise _refused(f"claim {self._name}, which names the operator, is missing or no name")
        if self._name == "email" and payload.get("email_verified") is not True:
            raise _refused("the issuer has not verified the e-mail address (email_verified)")
        return name

    def _role(self, payload: Mapping[str, Any]) -> str:
        """The first of the setting's roles that the person has: its order decides between several."""
        given = claim_at(payload, self._claim)
        values = set(filter(lambda v: isinstance(v, str), given[:_VALUES_MAX] if isinstance(given, list) else [given]))
        role = next((role for value, role in self._roles.items() if value in values), "")
        if not role:
            raise _refused(f"claim {self._claim} has no value that is a role here (setting sign_in_roles)")
        return role


def _refused(detail: str) -> TokenRefused:
    return TokenRefused("token_invalid", detail)
