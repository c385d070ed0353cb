"""Signing keys: made, kept in files that only their owner can read, published as JWKs, rotated with overlap.

The ledger's table `signing_keys` holds the public halves; a key signs while it is not retired there and its private
half is at hand. Names (kid) are thumbprints of the public half (RFC 7638).
"""

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from pipeline.ledger import Ledger
from pipeline.ledger.catalogs import audit
from pipeline.ledger.tables import signing_keys
from tollhouse.errors import UserError
from tollhouse.settings import Settings, read_secret
from tollhouse.tokens.verify import PublicKey

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
DEFAULT_ALGORITHM: Final = "EdDSA"
DEFAULT_OVERLAP_S: Final = 7 * 86_400
"""A week: proxies and operators renew their tokens at leisure after a planned rotation."""
DIRECTORY: Final = "keys"
SECRET: Final = "TOLLHOUSE_SIGNING_KEY"  # noqa: S105 - the name of a setting


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that can sign."""

    kid: str
    algorithm: str
    private: PrivateKey


def algorithm_of(private: PrivateKey) -> str:
    """The one algorithm of the key."""
    return "EdDSA" if isinstance(private, Ed25519PrivateKey) else "ES256"


def public_jwk(public: PublicKey) -> dict[str, str]:
    """The public half as a JWK (RFC 7517), without a name."""
    kind: Any = OKPAlgorithm if type(public).__name__.endswith("Ed25519PublicKey") else ECAlgorithm
    jwk = kind.to_jwk(public, as_dict=True)
    return {name: str(jwk[name]) for name in ("kty", "crv", "x", "y") if name in jwk}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """RFC 7638: SHA-256 over the required members in order of their names."""
    text = json.dumps(dict(sorted(jwk.items())), separators=(",", ":"))
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


def public_of(jwk: Mapping[str, str]) -> PublicKey:
    """The key of a stored JWK."""
    kind: Any = OKPAlgorithm if jwk["kty"] == "OKP" else ECAlgorithm
    key: PublicKey = kind.from_jwk(dict(jwk))
    return key


def named(private: PrivateKey) -> SigningKey:
    """The key under its own name."""
    return SigningKey(thumbprint(public_jwk(private.public_key())), algorithm_of(private), private)


def generate(algorithm: str = DEFAULT_ALGORITHM) -> SigningKey:
    """A new key."""
    if algorithm == "EdDSA":
        return named(Ed25519PrivateKey.generate())
    if algorithm == "ES256":
        return named(generate_private_key(SECP256R1()))
    raise UserError(f"{algorithm!r} is no algorithm for signing keys: use EdDSA or ES256", code=2)


def parse_private(text: str, where: str) -> SigningKey:
    """A private key from PEM; UserError names the place, never the content."""
    try:
        private = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        raise UserError(f"{where} is no private key in PEM without a password") from None
    if isinstance(private, Ed25519PrivateKey):
        return named(private)
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
        return named(private)
    raise UserError(f"{where} is neither an Ed25519 nor a P-256 key: make one with `tollhouse token keys rotate`")


def _path(settings: Settings, kid: str) -> Path:
    return settings.dir / DIRECTORY / f"{kid}.pem"


def store_private(settings: Settings, key: SigningKey) -> Path:
    """Write the private half: directory 0700, file 0600 from its first moment on."""
    path = _path(settings, key.kid)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: the signing key cannot be kept: {error.strerror}") from None
    return path


def rows(ledger: Ledger) -> list[dict[str, Any]]:
    """All signing keys that ever were, the newest first: kid, algorithm, public_jwk (JSON), created_us, retired_us."""
    return ledger.rows(signing_keys, order=[signing_keys.c.created_us.desc(), signing_keys.c.kid])


def live(rows_: list[dict[str, Any]], now_us: int) -> dict[str, tuple[str, PublicKey]]:
    """The keys whose tokens count now, for `verify`."""
    return {
        row["kid"]: (row["algorithm"], public_of(json.loads(row["public_jwk"])))
        for row in rows_
        if row["retired_us"] is None or now_us < row["retired_us"]
    }


def jwks_document(rows_: list[dict[str, Any]], now_us: int) -> dict[str, Any]:
    """The JWKS that others check tokens with."""
    return {
        "keys": [
            {**json.loads(row["public_jwk"]), "kid": row["kid"], "alg": row["algorithm"], "use": "sig"}
            for row in rows_
            if row["retired_us"] is None or now_us < row["retired_us"]
        ]
    }


def _register(ledger: Ledger, key: SigningKey, now_us: int, who: str) -> None:
    jwk = json.dumps(public_jwk(key.private.public_key()), sort_keys=True)

    def work(connection: Any) -> None:
        known = connection.execute(signing_keys.select().where(signing_keys.c.kid == key.kid)).first()
        if known is not None:
            return
        connection.execute(
            signing_keys.insert().values(
                kid=key.kid, algorithm=key.algorithm, public_jwk=jwk, created_us=now_us, retired_us=None
            )
        )
        audit(connection, now_us, who, "signing_key.create", key.kid, key.algorithm)

    ledger.write(work)


def signing_key(settings: Settings, ledger: Ledger, now_us: int, who: str = "cli") -> SigningKey:
    """The key to sign with: the one of the environment, else the newest whose file is here, else a new one."""
    environment = settings.environment
    if environment.get(SECRET) or environment.get(f"{SECRET}_FILE"):
        key = parse_private(settings.secret(SECRET), SECRET)
        _register(ledger, key, now_us, who)
        row = next(row for row in rows(ledger) if row["kid"] == key.kid)
        if row["retired_us"] is not None:
            raise UserError(f"{SECRET} holds a key that was retired: put the new one there")
        return key
    for row in rows(ledger):
        path = _path(settings, row["kid"])
        if row["retired_us"] is None and path.exists():
            key = parse_private(read_secret(path), str(path))
            if key.kid != row["kid"]:
                raise UserError(f"{path} holds another key than its name says: put the right file back")
            return key
    key = generate()
    store_private(settings, key)
    _register(ledger, key, now_us, who)
    return key


def rotate(
    settings: Settings,
    ledger: Ledger,
    now_us: int,
    *,
    algorithm: str = DEFAULT_ALGORITHM,
    overlap_us: int,
    who: str = "cli",
) -> tuple[SigningKey, list[str]]:
    """A new signing key, and the names of those that it takes the place of: their tokens count until the overlap ends.

    The private halves of the old ones are deleted here, since they sign nothing more. Where the key comes from the
    environment, the new one has to be there already.
    """
    if settings.environment.get(SECRET) or settings.environment.get(f"{SECRET}_FILE"):
        key = parse_private(settings.secret(SECRET), SECRET)
        if any(row["kid"] == key.kid for row in rows(ledger)):
            raise UserError(f"{SECRET} still holds a key that is known: put a new one there, then rotate")
    else:
        key = generate(algorithm)
        store_private(settings, key)
    _register(ledger, key, now_us, who)

    def work(connection: Any) -> list[str]:
        old = signing_keys.c.retired_us.is_(None) & (signing_keys.c.kid != key.kid)
        names = [row.kid for row in connection.execute(signing_keys.select().where(old))]
        connection.execute(signing_keys.update().where(old).values(retired_us=now_us + overlap_us))
        for name in names:
            audit(connection, now_us, who, "signing_key.retire", name, f"replaced by {key.kid}")
        return names

    retired = ledger.write(work)
    for name in retired:
        _path(settings, name).unlink(missing_ok=True)
    return key, retired
