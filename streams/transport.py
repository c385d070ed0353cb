"""How the broker is reached: in the clear, by TLS, or by TLS with a user and a password (SASL).

One value serves every Kafka client here: aiokafka and kafka-python take the same names, Faust its own objects. A
password never goes without TLS, a certificate is always checked against the broker's name.
"""

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PROTOCOLS: Final = ("plaintext", "ssl", "sasl_ssl")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROBE_S: Final = 3.0


class TransportError(ValueError):
    """A certificate or key file that cannot be used; one line for people."""


@dataclass(frozen=True, slots=True)
class BrokerSecurity:
    """protocol: one of PROTOCOLS. ca_file: PEM of who signs the brokers' certificates; None: the system's.
    cert_file, key_file: PEM of this client's own certificate, where brokers ask for one. mechanism: one of MECHANISMS.
    """

    protocol: str = "plaintext"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password: str = field(default="", repr=False)

    def context(self) -> ssl.SSLContext:
        """For TLS 1.2 and later, with the broker's name checked. TransportError for a file that cannot be used."""
        try:
            made = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TransportError(f"{self.ca_file}: no certificates can be read from it ({_short(error)})") from None
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file is not None:
            try:
                made.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                raise TransportError(
                    f"{self.cert_file} and {self.key_file}: not a certificate and its key ({_short(error)})"
                ) from None
        return made

    def client(self) -> dict[str, Any]:
        """Keyword arguments for the clients of aiokafka and of kafka-python."""
        if self.protocol == "plaintext":
            return {}
        found: dict[str, Any] = {"security_protocol": self.protocol.upper(), "ssl_context": self.context()}
        if self.protocol == "sasl_ssl":
            found |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        return found

    def faust(self) -> dict[str, Any]:
        """Keyword arguments for faust.App."""
        if self.protocol == "plaintext":
            return {}
        import faust  # noqa: PLC0415 - a second to import, and commands that only send do without

        if self.protocol == "ssl":
            return {"broker_credentials": faust.SSLCredentials(self.context())}
        credentials = faust.SASLCredentials(
            username=self.user, password=self.password, ssl_context=self.context(), mechanism=self.mechanism
        )
        return {"broker_credentials": credentials}


PLAINTEXT: Final = BrokerSecurity()


def why_not(bootstrap: str, security: BrokerSecurity) -> str:
    """What keeps a client out, for people: nothing listens, no TLS there, an untrusted certificate, or the sign-in.

    Asked after a client has failed, so what it says is the first thing to look at, not a proof.
    """
    host, _, port = bootstrap.partition(",")[0].strip().rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), PROBE_S) as plain:
            if security.protocol == "plaintext":
                return f"{bootstrap} listens, but not to Kafka in the clear: does it want TOLLHOUSE_BROKER_SECURITY?"
            with security.context().wrap_socket(plain, server_hostname=host):
                pass
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {bootstrap} is not trusted ({error.verify_message}): see TOLLHOUSE_BROKER_CA_FILE"
    except ssl.SSLError as error:
        return f"{bootstrap} does not speak TLS with us ({_short(error)}): see TOLLHOUSE_BROKER_SECURITY"
    except TransportError as error:
        return str(error)
    except (OSError, ValueError, OverflowError):
        return f"no broker answers at {bootstrap}: start it or correct TOLLHOUSE_BROKER"
    if security.protocol == "sasl_ssl":
        return (
            f"{bootstrap} refused the sign-in of {security.user!r} by {security.mechanism}: see its user and password"
        )
    return f"{bootstrap} refused this client: does it want a certificate (TOLLHOUSE_BROKER_CERT_FILE)?"


def _short(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()
