"""Provider keys by fingerprint: a keyed hash and the last four characters. The secret itself is nowhere kept.

The hash is keyed, so that whoever reads the database cannot try keys against it. Its key comes from
TOLLHOUSE_FINGERPRINT_KEY (or its _FILE), the same on every machine; without it, one is made in the directory.
"""

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pipeline.ledger import Ledger
from pipeline.ledger.own_keys import find_fingerprint, register_fingerprint
from schemas.instants import format_instant
from tollhouse.errors import UserError
from tollhouse.settings import Settings, read_secret

SECRET: Final = "TOLLHOUSE_FINGERPRINT_KEY"  # noqa: S105 - the name of a setting
FILE: Final = Path("keys") / "fingerprint.key"
KEY_BYTES_MIN: Final = 16
LENGTHS: Final = (16, 512)
"""Characters of a provider's key: the last four say nothing of one so long, and no provider's is longer."""


class Fingerprints:
    """Makes fingerprints with this installation's key, which is read when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key: bytes | None = None

    def of(self, secret: str) -> str:
        """The fingerprint of a provider's key: "fp_" and 64 hexadecimal digits."""
        if self._key is None:
            self._key = _hash_key(self._settings)
        return "fp_" + hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def _hash_key(settings: Settings) -> bytes:
    environment = settings.environment
    if environment.get(SECRET) or environment.get(f"{SECRET}_FILE"):
        text = settings.secret(SECRET)
    else:
        text = _kept(settings.dir / FILE)
    if len(text.encode()) < KEY_BYTES_MIN:
        raise UserError(f"{SECRET} has less than {KEY_BYTES_MIN} bytes: put a long random text there")
    return text.encode()


def _kept(path: Path) -> str:
    """The key in the directory, made at first use: readable by its owner only, and whole from its first moment on."""
    if not path.exists():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
            try:
                os.link(made, path)  # fails where another process was first: then that one's counts
            except FileExistsError:
                pass
            finally:
                made.unlink()
        except OSError as error:
            raise UserError(f"{path}: the key of fingerprints cannot be kept: {error.strerror}") from None
    return read_secret(path)


def register(settings: Settings, ledger: Ledger, key: str, secret: str, now_us: int, who: str) -> dict[str, Any]:
    """Note which secret a key of the catalog has, by fingerprint; key, fingerprint, last_four, registered_at.

    UserError for an unknown key, for what cannot be a provider's key, and for a secret that is registered as another
    key: two ids for one key would count it twice.
    """
    if key not in ledger.context().catalog.keys:
        raise UserError(f"{key!r} is no key of the catalog: add it there first, by its id")
    low, high = LENGTHS
    if not low <= len(secret) <= high or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise UserError(f"that is no provider's key: {low} to {high} printable characters without a space")
    fingerprint, last_four = Fingerprints(settings).of(secret), secret[-4:]
    found = ledger.write(lambda db: register_fingerprint(db, key, fingerprint, last_four, now_us, who))
    if found != key:
        raise UserError(f"this provider key is registered as {found}: one key has one id")
    return {
        "key": key,
        "fingerprint": fingerprint,
        "last_four": last_four,
        "registered_at": format_instant(now_us),
        "registered_by": who,
    }


def key_of(fingerprints: Fingerprints, ledger: Ledger, text: str) -> str | None:
    """The id of the key whose secret the text is, if it was registered."""
    if not LENGTHS[0] <= len(text) <= LENGTHS[1]:
        return None
    fingerprint = fingerprints.of(text)
    return ledger.read(lambda db: find_fingerprint(db, fingerprint))
