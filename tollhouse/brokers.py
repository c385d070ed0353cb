"""How the settings say that the broker is reached."""

from pathlib import Path

from streams.transport import BrokerSecurity, TransportError
from tollhouse.errors import UserError
from tollhouse.settings import Settings, check_private

PASSWORD = "TOLLHOUSE_BROKER_PASSWORD"  # noqa: S105 - its name


def security_of(settings: Settings) -> BrokerSecurity:
    """The broker's transport. UserError for settings that contradict one another and for files that cannot be used."""
    if settings.broker_security == "plaintext":
        for name in ("broker_ca_file", "broker_cert_file", "broker_key_file", "broker_user"):
            if getattr(settings, name):
                raise UserError(f"{name} is set, but broker_security is plaintext: set it to ssl or sasl_ssl", code=2)
        return BrokerSecurity()
    if bool(settings.broker_cert_file) != bool(settings.broker_key_file):
        raise UserError("broker_cert_file and broker_key_file go together: set both or neither", code=2)
    if settings.broker_key_file:
        check_private(Path(settings.broker_key_file))
    user = password = ""
    if settings.broker_security == "sasl_ssl":
        if not settings.broker_user:
            raise UserError("broker_security is sasl_ssl: set broker_user", code=2)
        user, password = settings.broker_user, settings.secret(PASSWORD)
    made = BrokerSecurity(
        settings.broker_security,
        ca_file=_path(settings.broker_ca_file),
        cert_file=_path(settings.broker_cert_file),
        key_file=_path(settings.broker_key_file),
        mechanism=settings.broker_sasl,
        user=user,
        password=password,
    )
    try:
        made.context()
    except TransportError as error:
        raise UserError(str(error)) from None
    return made


def _path(text: str) -> Path | None:
    return Path(text) if text else None
