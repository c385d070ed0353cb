"""An OpenID Connect issuer for tests, over HTTP on this machine: it checks what a real one checks, and errs as told."""

import json
import secrets
import threading
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLIENT = "tollhouse-dashboard"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Quiet:
    """Writes no lines between a test's own."""

    def log_message(self, *_arguments: Any) -> None:
        pass


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An issuer's address while it is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class OperatorIssuer:
    """person: the claims of who signs in there. over: claims of the id token that are as told. secret: of the client.
    asked: forms of the token endpoint. page: show a page with a link, as for a person, instead of going straight on."""

    now_s: Callable[[], int]
    url: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "ada", "groups": ["staff", "billing"]})
    over: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    secret: str = ""
    key: Any = KEY
    algorithm: str = "RS256"
    page: bool = False
    status: int = 200
    asked: list[dict[str, str]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
        return {"issuer": self.url, **{name: f"{self.url}/{path}" for name, path in names.items()}} | self.about

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser goes once the person has signed in."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """The token endpoint: a code counts once, with its verifier, from its client."""
        self.asked.append(form)
        if self.secret:
            name, _, given = b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            pair = (unquote(name), unquote(given)) if authorization else (form["client_id"], form.get("client_secret"))
            if pair != (CLIENT, self.secret):
                return 401, {"error": "invalid_client"}
        query = self.codes.pop(form["code"], None)
        if query is None or query["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        digest = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if digest != query["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        times = {"iat": self.now_s(), "exp": self.now_s() + 300}
        claims = {"iss": self.url, "aud": CLIENT, "nonce": query["nonce"], **times, **self.person, **self.over}
        claims = {name: value for name, value in claims.items() if value is not None}
        made = jwt.encode(claims, self.key, algorithm=self.algorithm, headers={"kid": "k1"})
        return 200, {"token_type": "Bearer", "access_token": "unused", "id_token": made}


@contextmanager
def operator_issuer(now_s: Callable[[], int]) -> Iterator[OperatorIssuer]:
    """The issuer while it is served."""
    issuer = OperatorIssuer(now_s)

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            at = urlsplit(self.path)
            if at.path == "/authorize":
                query = {name: values[0] for name, values in parse_qs(at.query).items()}
                address = issuer.authorize(query)
                if issuer.page:
                    return self.answer(200, f'<a href="{address.replace("&", "&amp;")}">Yes, it is me</a>', "text/html")
                return self.answer(303, "", "text/html", Location=address)
            jwk = {**RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "k1"}
            found = {"/.well-known/openid-configuration": issuer.document(), "/jwks": {"keys": [jwk]}}.get(at.path)
            return self.answer(issuer.status if found else 404, json.dumps(found), "application/json")

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            fields = {name: values[0] for name, values in form.items()}
            status, answer = issuer.token(fields, self.headers.get("Authorization", ""))
            self.answer(status, json.dumps(answer), "application/json")

        def answer(self, status: int, text: str, kind: str, **headers: str) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Type": kind, "Content-Length": str(len(text.encode()))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

    with served(Handler) as issuer.url:
        yield issuer
