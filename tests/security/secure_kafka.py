"""One Kafka node of a test's own that nobody reaches in the clear: TLS with certificates of both sides, and SASL."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service_parts import base, kafka
from tests.security.certificates import Authority
from tests.services import KAFKA, require

USER, PASSWORD = "tollhouse-test", "planted-broker-password"
PROXY, PROXY_PASSWORD = "proxy-test", "planted-proxy-password"
"""A user who may do nothing but what a test lets it."""
_MODULE = "org.apache.kafka.common.security"


class SecureKafka:
    """mutual: `host:port` where a client shows a certificate; sasl: where it shows a user and a password."""

    def __init__(self, home: Path, authority: Authority) -> None:
        require(KAFKA)
        self.home = home
        ports = base.free_port(), base.free_port(), base.free_port()
        self.mutual, self.sasl = (f"{base.LOOPBACK}:{port}" for port in ports[:2])
        self._config = home / "server.properties"
        self._config.write_text(self._properties(*ports, authority))
        self._java = kafka._java()
        self._tool("format", "-t", uuid.uuid4().hex[:22], "-c", str(self._config), "--add-scram",
                   f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]")  # fmt: skip
        with (home / "kafka.log").open("ab") as log:
            command = kafka._command(self._java, "kafka.Kafka", str(self._config))
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home)
        deadline = time.monotonic() + 60
        while not all(base.listens(port) for port in ports[:2]):
            assert self._process.poll() is None, (home / "kafka.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (home / "kafka.log").read_text()[-3000:]
            time.sleep(0.1)

    def _tool(self, *words: str) -> None:
        command = kafka._command(self._java, "kafka.tools.StorageTool", *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _properties(self, mutual: int, sasl: int, controller: int, authority: Authority) -> str:
        plain = kafka._properties(mutual, controller).replace(str(kafka._DATA), str(self.home / "data"))
        kept = [line for line in plain.splitlines() if not line.startswith(("listeners", "advertised", "listener."))]
        here = base.LOOPBACK
        users = f'user_{USER}="{PASSWORD}" user_{PROXY}="{PROXY_PASSWORD}"'
        clients = f"SSL://{here}:{mutual},SASL_SSL://{here}:{sasl}"
        return "\n".join([
            *kept,
            f"listeners={clients},CONTROLLER://{here}:{controller}",
            f"advertised.listeners={clients}",
            "listener.security.protocol.map=SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=SSL",
            "ssl.keystore.type=PEM", f"ssl.keystore.location={authority.pair('broker').both}",
            "ssl.truststore.type=PEM", f"ssl.truststore.location={authority.file}",
            "listener.name.ssl.ssl.client.auth=required",
            "listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
            f"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={_MODULE}.scram.ScramLoginModule required;",
            f"listener.name.sasl_ssl.plain.sasl.jaas.config={_MODULE}.plain.PlainLoginModule required {users};",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            f"super.users=User:{USER};User:CN=broker;User:CN=client;User:ANONYMOUS",  # the last: the controller's own
            "",
        ])  # fmt: skip

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def secure_kafka(home: Path, authority: Authority) -> Iterator[SecureKafka]:
    """For the length of a module's tests."""
    home.mkdir(parents=True, exist_ok=True)
    node = SecureKafka(home, authority)
    try:
        yield node
    finally:
        node.end()
